/* Segments a raw volume: segment_raw PACKAGE.sgmf HEADER.txt LABELS.raw
 *
 * Labels are written with x fastest, as uint8, or uint16 where the model has more than 255.
 * The exit status is that of the library. */
#include <inttypes.h>
#include <sgmf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raw_volume.h"

static int32_t show_progress(void* user_data, int64_t done, int64_t count) {
  (void)user_data;
  fprintf(stderr, "\rtile %" PRId64 " of %" PRId64 "%s", done, count, done == count ? "\n" : "");
  return 0; /* go on */
}

static sgmf_status fail(sgmf_model* model, sgmf_status status) {
  fprintf(stderr, "%s: %s\n", sgmf_status_name(status), sgmf_message(model));
  return status;
}

static sgmf_status describe(sgmf_model* model) {
  sgmf_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  sgmf_status status = sgmf_get_info(model, &info);
  if (status != SGMF_OK) return fail(model, status);
  printf("%s, format %s: %s\n", info.name, info.format_version, info.backend);
  for (int32_t i = 0; i < info.labels; ++i) {
    sgmf_label label;
    memset(&label, 0, sizeof label);
    label.struct_size = sizeof label;
    status = sgmf_get_label(model, i, &label);
    if (status != SGMF_OK) return fail(model, status);
    printf("  %" PRId32 " %s\n", label.value, label.name);
  }
  return SGMF_OK;
}

/* Memory for the labels of a volume, of the smallest type that holds them all. */
static int allocate_labels(sgmf_model* model, const sgmf_volume* volume, sgmf_labels* labels) {
  sgmf_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  if (sgmf_get_info(model, &info) != SGMF_OK) return -1;
  memset(labels, 0, sizeof *labels);
  labels->struct_size = sizeof *labels;
  labels->element_type = info.label_type;
  labels->size_bytes = (uint64_t)(volume->shape[0] * volume->shape[1] * volume->shape[2]) *
                       (info.label_type == SGMF_UINT8 ? 1u : 2u);
  labels->labels = malloc(labels->size_bytes);
  return labels->labels ? 0 : -1;
}

static sgmf_status run(sgmf_model* model, const sgmf_volume* volume, const sgmf_labels* labels) {
  sgmf_run_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.progress = show_progress;
  sgmf_status status = sgmf_run(model, volume, labels, &options);
  if (status != SGMF_OK) return fail(model, status);

  sgmf_statistics statistics;
  memset(&statistics, 0, sizeof statistics);
  statistics.struct_size = sizeof statistics;
  status = sgmf_get_statistics(model, &statistics);
  if (status != SGMF_OK) return fail(model, status);
  printf("%.3f s: preprocessing %.3f, network %.3f, labels %.3f; %" PRId64
         " tiles, %.1f MiB of the budget\n",
         statistics.total_seconds, statistics.preprocess_seconds, statistics.network_seconds,
         statistics.labels_seconds, statistics.tiles,
         (double)statistics.peak_bytes / (1024.0 * 1024.0));
  return SGMF_OK;
}

static sgmf_status segment(sgmf_model* model, const char* header, const char* output) {
  sgmf_volume volume;
  sgmf_labels labels;
  sgmf_status status = describe(model);
  if (status != SGMF_OK) return status;
  if (raw_volume_read(header, &volume) != 0) return SGMF_INVALID_ARGUMENT;
  status = SGMF_OUT_OF_MEMORY;
  if (allocate_labels(model, &volume, &labels) == 0) {
    status = run(model, &volume, &labels);
    if (status == SGMF_OK && raw_file_write(output, labels.labels, labels.size_bytes) != 0) {
      status = SGMF_INVALID_ARGUMENT;
    }
    free(labels.labels);
  }
  raw_volume_free(&volume);
  return status;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: segment_raw PACKAGE.sgmf HEADER.txt LABELS.raw\n");
    return SGMF_INVALID_ARGUMENT;
  }
  sgmf_open_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.package_path = argv[1];
  sgmf_model* model = NULL;
  char message[1024];
  sgmf_status status = sgmf_open(SGMF_ABI_VERSION, &options, &model, message, sizeof message);
  if (status != SGMF_OK) {
    fprintf(stderr, "%s: %s\n", sgmf_status_name(status), message);
    return status;
  }
  status = segment(model, argv[2], argv[3]);
  sgmf_close(model);
  return status;
}
