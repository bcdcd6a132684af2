/* Eight threads on four handles, two in turn on each, which also cancel one another:
 *
 *   stress PACKAGE.sgmf RUNS THREADS_OF_A_HANDLE
 *
 * Every completed run must have the labels of a run that nothing disturbed. */
#include <pthread.h>
#include <sched.h>

#include "phantom.h"

enum { HANDLES = 4, WORKERS = 2 * HANDLES };

typedef struct {
  sgmf_model* model;
  sgmf_model* neighbour;
  const float* voxels;
  const uint8_t* expected;
  int runs;
  int index;
  int completed;
  int cancelled;
  int wrong;
} worker;

static sgmf_status run_in_turn(worker* self, uint8_t* memory) {
  const sgmf_volume volume = phantom_volume(self->voxels);
  const sgmf_labels labels = phantom_labels(memory);
  for (;;) {
    const sgmf_status status = sgmf_run(self->model, &volume, &labels, NULL);
    if (status != SGMF_BUSY) return status;
    sched_yield();
  }
}

static void ask_around(worker* self) {
  sgmf_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  const sgmf_status status = sgmf_get_info(self->neighbour, &info);
  if (status != SGMF_OK && status != SGMF_BUSY) ++self->wrong;
}

static void* work(void* data) {
  worker* self = data;
  uint8_t* memory = malloc(VOXELS);
  if (!memory) exit(1);
  for (int run = 0; run < self->runs; ++run) {
    const sgmf_status status = run_in_turn(self, memory);
    if (status == SGMF_CANCELLED) {
      ++self->cancelled;
    } else if (status == SGMF_OK && memcmp(memory, self->expected, VOXELS) == 0) {
      ++self->completed;
    } else {
      ++self->wrong;
    }
    ask_around(self);
    if (run % 4 == self->index % 4) sgmf_cancel(self->neighbour);
  }
  free(memory);
  return NULL;
}

static uint8_t* undisturbed(sgmf_model* model, const float* voxels) {
  uint8_t* memory = malloc(VOXELS);
  const sgmf_volume volume = phantom_volume(voxels);
  const sgmf_labels labels = phantom_labels(memory);
  const sgmf_status status = sgmf_run(model, &volume, &labels, NULL);
  if (status != SGMF_OK) fail("run", status, sgmf_message(model));
  return memory;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  sgmf_model* models[HANDLES];
  for (int i = 0; i < HANDLES; ++i) models[i] = open_model(argv[1], atoi(argv[3]));
  float* voxels = make_phantom();
  uint8_t* expected = undisturbed(models[0], voxels);
  worker workers[WORKERS];
  pthread_t threads[WORKERS];
  for (int i = 0; i < WORKERS; ++i) {
    workers[i] = (worker){
        models[i / 2], models[(i / 2 + 1) % HANDLES], voxels, expected, atoi(argv[2]), i, 0, 0, 0};
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) return 1;
  }
  int completed = 0, cancelled = 0, wrong = 0;
  for (int i = 0; i < WORKERS; ++i) {
    pthread_join(threads[i], NULL);
    completed += workers[i].completed;
    cancelled += workers[i].cancelled;
    wrong += workers[i].wrong;
  }
  for (int i = 0; i < HANDLES; ++i) sgmf_close(models[i]);
  free(expected);
  free(voxels);
  printf("%d completed, %d cancelled, %d wrong\n", completed, cancelled, wrong);
  return wrong == 0 && completed > 0 ? 0 : 1;
}
