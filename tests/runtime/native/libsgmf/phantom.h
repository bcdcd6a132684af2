/* What the check programs share: a handle, and a scan that needs no file. */
#ifndef PHANTOM_H_
#define PHANTOM_H_

#include <math.h>
#include <sgmf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 50, HEIGHT = 44, DEPTH = 36, VOXELS = WIDTH * HEIGHT * DEPTH };

static inline void fail(const char* what, sgmf_status status, const char* message) {
  fprintf(stderr, "%s: %s: %s\n", what, sgmf_status_name(status), message);
  exit(1);
}

static inline sgmf_model* open_model(const char* package, int32_t threads) {
  sgmf_open_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.package_path = package;
  options.threads = threads;
  options.memory_budget_mib = 64;
  sgmf_model* model = NULL;
  char message[1024];
  const sgmf_status status = sgmf_open(SGMF_ABI_VERSION, &options, &model, message, sizeof message);
  if (status != SGMF_OK) fail("open", status, message);
  return model;
}

/* One channel of smooth intensities, zero at the rim. */
static inline float* make_phantom(void) {
  float* voxels = malloc(VOXELS * sizeof *voxels);
  if (!voxels) exit(1);
  for (int i = 0; i < VOXELS; ++i) {
    const int x = i % WIDTH, y = i / WIDTH % HEIGHT, z = i / WIDTH / HEIGHT;
    const int rim = x < 3 || y < 4 || z < 2;
    voxels[i] =
        rim ? 0.0f : (float)(100 + 20 * sin(x / 3.0) + 15 * cos(y / 4.0) + 10 * sin(z / 2.0));
  }
  return voxels;
}

static inline sgmf_volume phantom_volume(const float* voxels) {
  sgmf_volume volume;
  memset(&volume, 0, sizeof volume);
  volume.struct_size = sizeof volume;
  volume.element_type = SGMF_FLOAT;
  volume.voxels = voxels;
  volume.size_bytes = VOXELS * sizeof *voxels;
  volume.channels = 1;
  volume.shape[0] = WIDTH;
  volume.shape[1] = HEIGHT;
  volume.shape[2] = DEPTH;
  for (int i = 0; i < 16; i += 5) volume.affine[i] = 1;
  return volume;
}

static inline sgmf_labels phantom_labels(uint8_t* memory) {
  sgmf_labels labels;
  memset(&labels, 0, sizeof labels);
  labels.struct_size = sizeof labels;
  labels.element_type = SGMF_UINT8;
  labels.labels = memory;
  labels.size_bytes = VOXELS;
  return labels;
}

#endif
