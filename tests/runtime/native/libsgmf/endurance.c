/* Many runs of one handle: neither the heap nor the resident memory may grow with them.
 *
 *   endurance PACKAGE.sgmf RUNS
 *
 * The first runs fill the workspace and ONNX Runtime's arena; from then on the heap stays as it is,
 * to the byte. Threads that start or end just then may hold a few hundred. */
#include <malloc.h>
#include <unistd.h>

#include "phantom.h"

enum { SETTLING_RUNS = 20, MOST_BYTES = 2048, MOST_KIB = 2048 };

/* Bytes that the heap has given out, in all arenas, and in mapped blocks. */
static size_t heap_bytes(void) {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

static long resident_kib(void) {
  long pages = 0, resident = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2) exit(1);
  fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  sgmf_model* model = open_model(argv[1], 1);
  float* voxels = make_phantom();
  uint8_t* memory = malloc(VOXELS);
  const sgmf_volume volume = phantom_volume(voxels);
  const sgmf_labels labels = phantom_labels(memory);
  size_t settled_heap = 0;
  long settled_kib = 0;
  for (int run = 0; run < SETTLING_RUNS + atoi(argv[2]); ++run) {
    if (run == SETTLING_RUNS) {
      settled_heap = heap_bytes();
      settled_kib = resident_kib();
    }
    const sgmf_status status = sgmf_run(model, &volume, &labels, NULL);
    if (status != SGMF_OK) fail("run", status, sgmf_message(model));
  }
  const long long heap_growth = (long long)heap_bytes() - (long long)settled_heap;
  const long growth_kib = resident_kib() - settled_kib;
  printf("heap %+lld bytes, resident %+ld KiB\n", heap_growth, growth_kib);
  sgmf_close(model);
  free(memory);
  free(voxels);
  return heap_growth < MOST_BYTES && growth_kib < MOST_KIB ? 0 : 1;
}
