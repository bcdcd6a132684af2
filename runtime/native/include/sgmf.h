/* Segmentation of 3-D medical images inside another program.
 *
 * You open a package of `sgmf export` once; then volumes in your program's memory become label
 * maps, voxel for voxel those of `sgmf infer` with the same backend. The guide is
 * docs/how-to/embedding.md.
 *
 * Threads. Any number of handles may be used at once, each by its own thread. One handle may be
 * used by several threads in turn; while a call on it is under way, any other call returns
 * SGMF_BUSY and does nothing. Two exceptions: sgmf_cancel may be called from any thread at any
 * time before sgmf_close, and sgmf_close may only be called when no other call is under way.
 *
 * Memory. Every pointer that you pass is borrowed until the call returns, and needs no alignment
 * beyond that of its type. Every text that you get belongs to the handle: texts of the sgmf_get_
 * functions live until sgmf_close, sgmf_message until the next call on the handle. Texts are UTF-8
 * and end with a NUL. The program frees nothing but handles, with sgmf_close.
 *
 * Errors. Functions return SGMF_OK or a status, and sgmf_message explains it: what was found, what
 * was expected, what to do. After an error the handle is as usable as before, except for
 * SGMF_DEFECT, after which every call returns SGMF_UNUSABLE. No exception leaves a function,
 * nothing is printed, and nothing is kept outside of handles but the backends' libraries, which
 * stay loaded. One exception: ONNX Runtime's official builds send usage data home unless the
 * environment variable ORT_DISABLE_TELEMETRY is 1 when they are loaded, so sgmf_open sets it if it
 * is not set. If your program reads its environment on other threads at that time, set the
 * variable yourself when the program starts.
 *
 * Versions. Structs begin with struct_size: set the struct to zero, then struct_size to its sizeof.
 * Zero or NULL in any other member means its default where the member says so. Later versions add
 * functions, and members at the end, and change nothing else, so a program built against an older
 * header keeps working. A change that breaks programs changes SGMF_ABI_VERSION and the library's
 * soname.
 */
#ifndef SGMF_H_
#define SGMF_H_

#include <stdint.h>

#ifndef SGMF_API
#if defined(_WIN32)
#define SGMF_API __declspec(dllexport)
#else
#define SGMF_API __attribute__((visibility("default")))
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SGMF_ABI_VERSION 1u

typedef struct sgmf_model sgmf_model;

typedef int32_t sgmf_status;
enum {
  SGMF_OK = 0,
  SGMF_CANCELLED = 1,        /* the progress callback or sgmf_cancel asked to stop */
  SGMF_INVALID_ARGUMENT = 2, /* a mistake of the calling program */
  SGMF_ABI_MISMATCH = 3,     /* the program's header and this library do not fit together */
  SGMF_NOT_FOUND = 4,        /* there is no package at the path */
  SGMF_PACKAGE_REFUSED = 5,  /* damaged, altered, of another format, contradictory, or not
                                signed by a key that you trust */
  SGMF_INPUT_REFUSED = 6,    /* the volume does not suit the model, or its affine is invalid */
  SGMF_BUDGET_TOO_SMALL = 7, /* the message states the smallest sufficient budget */
  SGMF_OUT_OF_MEMORY = 8,    /* the system has less memory than the budget promised */
  SGMF_BACKEND_MISSING = 9,  /* no backend of this name, or its library, driver, device, plugin or
                                engine for this machine was not found */
  SGMF_BACKEND_FAILED = 10,  /* the network or its engine could not be opened or is not to be
                                trusted, or it failed on a tile */
  SGMF_BUSY = 11,            /* another call on this handle is under way */
  SGMF_DEFECT = 12,          /* a defect of this library; please report it with the message */
  SGMF_UNUSABLE = 13         /* an earlier call returned SGMF_DEFECT; close the handle */
};

/* The name of a status, such as "SGMF_BUSY"; "unknown" for other numbers. Static. */
SGMF_API const char* sgmf_status_name(sgmf_status status);

/* SGMF_ABI_VERSION of the library, and the version of its release, such as "0.1.0". Static. */
SGMF_API uint32_t sgmf_abi_version(void);
SGMF_API const char* sgmf_version(void);

/* ------------------------------------------------------------------------------- open, close */

typedef struct sgmf_open_options {
  uint32_t struct_size;
  int32_t threads;             /* 0: every processor that this process may use */
  int64_t memory_budget_mib;   /* for what grows with a volume: its image on the model's grid, sums
                                  of logits, tiles, and the caller's voxels and labels; the network
                                  itself comes on top. 0: half of what the machine has free.
                                  Otherwise one network of a cascade is open at a time */
  const char* package_path;    /* the folder NAME.sgmf */
  const char* backend;         /* "onnxruntime", on the CPU; "tensorrt", with the engine that
                                  `sgmf build` made here; NULL: onnxruntime */
  const char* variant;         /* "fp32", "fp16", "int8"; NULL: fp32 */
  const char* backend_library; /* path of libonnxruntime, 1.18 or later, or of libnvinfer; NULL:
                                 the environment variable SGMF_ONNXRUNTIME or SGMF_TENSORRT, else
                                 that of the Python environment around this library or in
                                 VIRTUAL_ENV, else the system's */
  int32_t mirror;              /* 1: average over the mirrored axes that the package allows, which
                                  doubles the work with each */
  int32_t without_postprocessing; /* 1: labels as the network gives them, without the steps that
                                     the package lists after it */
  const char* trusted_keys;  /* a file of `sgmf keygen`, or a folder of them, besides the key rings
                                of docs/how-to/sign-packages.md; NULL: the environment variable
                                SGMF_TRUST, if it is set. Once any key is trusted, only packages
                                that one of them signed are opened */
  int32_t require_signature; /* 1: open nothing where no key is trusted either; so does the
                                environment variable SGMF_REQUIRE_SIGNATURE=1 */
  int32_t reserved;          /* 0 */
} sgmf_open_options;

/* Opens a package: checks its signature and the hash of each of its files, loads the backend and
 * the network.
 *
 * `abi_version` is SGMF_ABI_VERSION. On success *model is a handle, otherwise NULL; then up to
 * `message_size` bytes of `message` say why, including the NUL. `message` may be NULL. */
SGMF_API sgmf_status sgmf_open(uint32_t abi_version, const sgmf_open_options* options,
                               sgmf_model** model, char* message, uint64_t message_size);

/* Frees a handle and all that belongs to it; does nothing for NULL. */
SGMF_API void sgmf_close(sgmf_model* model);

/* Message of the last call on the handle; empty after SGMF_OK. SGMF_BUSY leaves no message. Call it
 * on the thread whose call failed, before any other call on the handle. */
SGMF_API const char* sgmf_message(const sgmf_model* model);

/* ----------------------------------------------------------------------------------- queries */

enum {
  SGMF_UINT8 = 1,
  SGMF_UINT16 = 2,
  SGMF_UINT32 = 3,
  SGMF_UINT64 = 4,
  SGMF_INT8 = 5,
  SGMF_INT16 = 6,
  SGMF_INT32 = 7,
  SGMF_INT64 = 8,
  SGMF_FLOAT = 9,
  SGMF_DOUBLE = 10
};

typedef struct sgmf_info {
  uint32_t struct_size;
  int32_t inputs;     /* channels of a volume: sgmf_get_input(0 ... inputs - 1) */
  int32_t labels;     /* values of a label map: sgmf_get_label */
  int32_t regions;    /* 0, or the unions of labels that the model predicts */
  int32_t label_type; /* SGMF_UINT8, or SGMF_UINT16 where a label exceeds 255 */
  int32_t threads;
  int64_t memory_budget_bytes;
  int64_t tile[3];            /* voxels along the model's axes, slowest first */
  double spacing_mm[3];       /* of the model's grid, slowest first; 0: the volume's own */
  const char* name;           /* name of the package */
  const char* network;        /* architecture */
  const char* created;        /* when the package was exported */
  const char* format_version; /* version of the package's format */
  const char* variant;
  const char* backend; /* with its version, device, variant, and threads; or batch and where
                          logits are summed, with why if that is not the device */
  const char* reader;  /* what read the scans of the model's training, see docs/how-to/embedding.md;
                          NULL where the package does not say */
  const char* signer;  /* name of the trusted key that signed the package; NULL where no key is
                          trusted, so that nobody is known to have signed it */
} sgmf_info;

SGMF_API sgmf_status sgmf_get_info(sgmf_model* model, sgmf_info* info);

enum {
  SGMF_ANY_SCALE = 0,     /* intensities on any scale; the model normalises each volume by itself */
  SGMF_HOUNSFIELD = 1,    /* CT in Hounsfield units, rescale slope and intercept applied */
  SGMF_RGB = 2,           /* a colour channel from 0 to 255 */
  SGMF_NOT_NORMALISED = 3 /* used unchanged: they must be scaled as in training */
};

typedef struct sgmf_input {
  uint32_t struct_size;
  int32_t intensities; /* SGMF_ANY_SCALE ... */
  const char* name;    /* the modality as the model's author calls it, such as "CT" or "T1" */
} sgmf_input;

SGMF_API sgmf_status sgmf_get_input(sgmf_model* model, int32_t index, sgmf_input* input);

typedef struct sgmf_label {
  uint32_t struct_size;
  int32_t value;
  const char* name;
} sgmf_label;

SGMF_API sgmf_status sgmf_get_label(sgmf_model* model, int32_t index, sgmf_label* label);

/* A union of labels that the model predicts as one. Where regions overlap, the label map holds
 * the value of the last of them. */
typedef struct sgmf_region {
  uint32_t struct_size;
  int32_t value; /* painted into the label map */
  const char* name;
  const int32_t* labels; /* values that the region unites */
  int64_t label_count;
} sgmf_region;

SGMF_API sgmf_status sgmf_get_region(sgmf_model* model, int32_t index, sgmf_region* region);

/* --------------------------------------------------------------------------------------- run */

/* Voxels in the program's memory, which are only read. Voxel (c, x, y, z) is element
 * c * strides[0] + x * strides[1] + y * strides[2] + z * strides[3]. Strides count elements and
 * are not negative: the affine describes an axis that runs the other way. All four 0 mean dense
 * voxels with x fastest and channels slowest, as scanners and NIfTI store them. */
typedef struct sgmf_volume {
  uint32_t struct_size;
  int32_t element_type; /* SGMF_UINT8 to SGMF_DOUBLE */
  const void* voxels;
  uint64_t size_bytes; /* size of the memory behind `voxels`; no voxel may lie beyond */
  int64_t channels;    /* as many as the model has inputs, in their order */
  int64_t shape[3];    /* x, y, z */
  int64_t strides[4];
  double affine[16]; /* row by row, from (x, y, z, 1) to millimetres towards the patient's
                        right, anterior and superior (NIfTI's convention; DICOM's LPS has the
                        first two rows negated) */
  double
      spacing_mm[3]; /* between neighbours along x, y and z, as the reader of the model's training
                        would have taken it, see sgmf_info.reader: it decides how the volume is
                        resampled, the affine alone where its voxels lie. All 0: the affine's */
} sgmf_volume;

/* Memory of the program for labels on the volume's own grid. Strides as for sgmf_volume, without
 * the channel. Bytes between the labels stay unchanged. */
typedef struct sgmf_labels {
  uint32_t struct_size;
  int32_t element_type; /* SGMF_UINT16, or SGMF_UINT8 if sgmf_info.label_type is that */
  void* labels;
  uint64_t size_bytes;
  int64_t strides[3];
} sgmf_labels;

/* Receives the number of tiles done and of all tiles; the first call has none done. A cascade of
 * two networks counts the first one's tiles, then anew the second one's. Runs on the thread that
 * called sgmf_run. Return 0 to continue, anything else to stop. It may call sgmf_cancel and no
 * other function on the handle, and must return: no exception, no longjmp. */
typedef int32_t (*sgmf_progress)(void* user_data, int64_t done, int64_t count);

typedef struct sgmf_run_options {
  uint32_t struct_size;
  int32_t reserved;       /* 0 */
  sgmf_progress progress; /* or NULL */
  void* user_data;        /* passed to `progress` */
} sgmf_run_options;

/* Segments a volume. `options` may be NULL. Unless it returns SGMF_OK, the content of the label
 * buffer is undefined. Memory of a run is kept for the next one. */
SGMF_API sgmf_status sgmf_run(sgmf_model* model, const sgmf_volume* volume,
                              const sgmf_labels* labels, const sgmf_run_options* options);

/* Runs the network on empty tiles, so that threads are started and memory is touched before the
 * first volume. */
SGMF_API sgmf_status sgmf_warm_up(sgmf_model* model);

/* Asks the current run to stop before its next tile; that run then returns SGMF_CANCELLED. Without
 * a current run it does nothing. */
SGMF_API void sgmf_cancel(sgmf_model* model);

/* The least memory budget for volumes like this one, in bytes. Voxels and labels are not read;
 * their pointers and size_bytes may be 0. */
SGMF_API sgmf_status sgmf_least_budget(sgmf_model* model, const sgmf_volume* volume,
                                       const sgmf_labels* labels, int64_t* bytes);

typedef struct sgmf_statistics {
  uint32_t struct_size;
  int32_t on_device;         /* 1: logits of the last sgmf_run were summed and turned into labels on
                                the device that computed them, within network_seconds */
  double open_seconds;       /* of sgmf_open */
  double warm_up_seconds;    /* of the last sgmf_warm_up; 0 without */
  double preprocess_seconds; /* of the last sgmf_run, as all below */
  double network_seconds;
  double labels_seconds; /* blending, interpolation and labels */
  double total_seconds;
  int64_t tiles;
  int64_t peak_bytes; /* largest use of the memory budget */
} sgmf_statistics;

/* Figures of the last run that returned SGMF_OK; zero before. */
SGMF_API sgmf_status sgmf_get_statistics(sgmf_model* model, sgmf_statistics* statistics);

#ifdef __cplusplus
}
#endif

#endif
