#include "raw_volume.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LENGTH = 4096 };

static const struct {
  const char* name;
  int32_t type;
  uint64_t bytes;
} types[] = {{"uint8", SGMF_UINT8, 1},   {"uint16", SGMF_UINT16, 2}, {"uint32", SGMF_UINT32, 4},
             {"uint64", SGMF_UINT64, 8}, {"int8", SGMF_INT8, 1},     {"int16", SGMF_INT16, 2},
             {"int32", SGMF_INT32, 4},   {"int64", SGMF_INT64, 8},   {"float32", SGMF_FLOAT, 4},
             {"float64", SGMF_DOUBLE, 8}};

uint64_t raw_voxel_bytes(int32_t element_type) {
  for (size_t i = 0; i < sizeof types / sizeof *types; ++i) {
    if (types[i].type == element_type) return types[i].bytes;
  }
  return 0;
}

static int32_t type_named(const char* name) {
  for (size_t i = 0; i < sizeof types / sizeof *types; ++i) {
    if (strcmp(types[i].name, name) == 0) return types[i].type;
  }
  return 0;
}

/* The file `name` beside the header. */
static void beside(const char* header_path, const char* name, char* path, size_t size) {
  const char* slash = strrchr(header_path, '/');
  const int folder = slash ? (int)(slash - header_path) + 1 : 0;
  snprintf(path, size, "%.*s%s", folder, header_path, name);
}

/* Reads the lines of a header in any order. Returns how many of the five there were. */
static int read_lines(FILE* header, sgmf_volume* volume, char* data) {
  char key[32];
  int found = 0;
  while (fscanf(header, "%31s", key) == 1) {
    char name[32];
    if (strcmp(key, "type") == 0 && fscanf(header, "%31s", name) == 1) {
      volume->element_type = type_named(name);
      found += volume->element_type != 0;
    } else if (strcmp(key, "channels") == 0) {
      found += fscanf(header, "%" SCNd64, &volume->channels) == 1;
    } else if (strcmp(key, "shape") == 0) {
      int64_t* shape = volume->shape;
      found += fscanf(header, "%" SCNd64 "%" SCNd64 "%" SCNd64, shape, shape + 1, shape + 2) == 3;
    } else if (strcmp(key, "affine") == 0) {
      int numbers = 0;
      while (numbers < 16 && fscanf(header, "%lf", &volume->affine[numbers]) == 1) ++numbers;
      found += numbers == 16;
    } else if (strcmp(key, "data") == 0) {
      found += fscanf(header, "%1023s", data) == 1;
    }
  }
  return found;
}

static int read_voxels(const char* path, sgmf_volume* volume) {
  const int64_t* shape = volume->shape;
  const int64_t most = INT64_C(1) << 20;
  for (int axis = 0; axis < 3; ++axis) {
    if (shape[axis] < 1 || shape[axis] > most) return -1;
  }
  if (volume->channels < 1 || volume->channels > 1024) return -1;
  const double bytes = (double)volume->channels * (double)shape[0] * (double)shape[1] *
                       (double)shape[2] * (double)raw_voxel_bytes(volume->element_type);
  if (bytes > 1e12) return -1;
  volume->size_bytes = (uint64_t)bytes;
  void* voxels = malloc(volume->size_bytes);
  FILE* file = fopen(path, "rb");
  const size_t read = file && voxels ? fread(voxels, 1, volume->size_bytes, file) : 0;
  if (file) fclose(file);
  if (read != volume->size_bytes) {
    free(voxels);
    return -1;
  }
  volume->voxels = voxels;
  return 0;
}

int raw_volume_read(const char* header_path, sgmf_volume* volume) {
  char data[1024] = "";
  char path[PATH_LENGTH];
  memset(volume, 0, sizeof *volume);
  volume->struct_size = sizeof *volume;
  FILE* header = fopen(header_path, "r");
  if (!header) {
    perror(header_path);
    return -1;
  }
  const int found = read_lines(header, volume, data);
  fclose(header);
  if (found != 5) {
    fprintf(stderr, "%s: expected type, channels, shape, affine and data\n", header_path);
    return -1;
  }
  beside(header_path, data, path, sizeof path);
  if (read_voxels(path, volume) != 0) {
    fprintf(stderr, "%s: does not hold the voxels that %s describes\n", path, header_path);
    return -1;
  }
  return 0;
}

void raw_volume_free(sgmf_volume* volume) {
  free((void*)volume->voxels);
  volume->voxels = NULL;
}

int raw_file_write(const char* path, const void* bytes, uint64_t size) {
  FILE* file = fopen(path, "wb");
  const int written = file && fwrite(bytes, 1, size, file) == size;
  if ((file && fclose(file) != 0) || !written) {
    perror(path);
    return -1;
  }
  return 0;
}
