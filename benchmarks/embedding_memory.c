/* Resident memory of a process around libsgmf, and what its runs take: without Python, which takes
 * more by itself.
 *
 *   cc -O2 -std=c11 -D_DEFAULT_SOURCE benchmarks/embedding_memory.c -I$LIB/../include -o
 * embedding_memory \ $LIB/libsgmf.so.1 -Wl,-rpath,$LIB       # LIB: segmaformer/runtime/lib of the
 * installation
 *   ./embedding_memory PACKAGE.sgmf X Y Z
 *
 * The volume is of one channel, int16, 1 mm, smooth and noisy. */
#include <sgmf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double resident_mib(void) {
  long pages = 0, resident = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2) exit(1);
  fclose(file);
  return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1024.0 * 1024.0);
}

static void expect(sgmf_status status, const char* message) {
  if (status == SGMF_OK) return;
  fprintf(stderr, "%s: %s\n", sgmf_status_name(status), message);
  exit(1);
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  sgmf_volume volume;
  memset(&volume, 0, sizeof volume);
  volume.struct_size = sizeof volume;
  volume.element_type = SGMF_INT16;
  volume.channels = 1;
  for (int axis = 0; axis < 3; ++axis) volume.shape[axis] = atoi(argv[2 + axis]);
  for (int i = 0; i < 16; i += 5) volume.affine[i] = 1;
  const int64_t count = volume.shape[0] * volume.shape[1] * volume.shape[2];
  int16_t* voxels = malloc((size_t)count * sizeof *voxels);
  uint8_t* memory = malloc((size_t)count);
  if (count < 1 || !voxels || !memory) return 1;
  for (int64_t i = 0; i < count; ++i) voxels[i] = (int16_t)(40 + i % 97 + rand() % 200);
  volume.voxels = voxels;
  volume.size_bytes = (uint64_t)count * sizeof *voxels;
  sgmf_labels labels;
  memset(&labels, 0, sizeof labels);
  labels.struct_size = sizeof labels;
  labels.element_type = SGMF_UINT8;
  labels.labels = memory;
  labels.size_bytes = (uint64_t)count;
  printf("%-30s %6.0f MiB\n", "before a package is opened", resident_mib());

  sgmf_open_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.package_path = argv[1];
  sgmf_model* model = NULL;
  char message[1024];
  expect(sgmf_open(SGMF_ABI_VERSION, &options, &model, message, sizeof message), message);
  printf("%-30s %6.0f MiB\n", "package open", resident_mib());
  for (int run = 0; run < 10; ++run) {
    expect(sgmf_run(model, &volume, &labels, NULL), sgmf_message(model));
    if (run == 0) printf("%-30s %6.0f MiB\n", "after the first run", resident_mib());
  }
  printf("%-30s %6.0f MiB\n", "after ten", resident_mib());
  sgmf_statistics statistics;
  memset(&statistics, 0, sizeof statistics);
  statistics.struct_size = sizeof statistics;
  expect(sgmf_get_statistics(model, &statistics), sgmf_message(model));
  printf("%-30s %6.0f MiB\n", "charged to the budget", (double)statistics.peak_bytes / 1048576.0);
  printf("%-30s %6.2f s\n", "opening", statistics.open_seconds);
  sgmf_close(model);
  free(memory);
  free(voxels);
  return 0;
}
