# TENSORRT_INCLUDE_DIR: the folder of TensorRT's headers, for the plugin and for libsgmf's session;
# looked for where SGMF_CUDA is on.
# SGMF_HAS_TENSORRT: whether the session can be built, which takes headers that it was written for
# and that of the CUDA runtime, which they include; nothing is linked.
if(SGMF_CUDA)
  find_path(TENSORRT_INCLUDE_DIR NvInfer.h
    HINTS ENV TENSORRT_INCLUDE_DIR
    PATH_SUFFIXES ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu
    DOC "Folder of TensorRT's headers")
endif()
set(SGMF_HAS_TENSORRT FALSE)
if(NOT TENSORRT_INCLUDE_DIR)
  message(STATUS "No headers of TensorRT: libsgmf is built without it")
  return()
endif()
find_package(CUDAToolkit QUIET)
find_path(SGMF_CUDA_INCLUDE_DIR cuda_runtime_api.h
  HINTS ${CUDAToolkit_INCLUDE_DIRS} ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
  PATH_SUFFIXES include
  DOC "Folder of the CUDA runtime's headers")
if(NOT SGMF_CUDA_INCLUDE_DIR)
  message(STATUS "No headers of the CUDA runtime: libsgmf is built without TensorRT")
  return()
endif()

include(CheckCXXSourceCompiles)
unset(SGMF_TENSORRT_FITS CACHE)
set(CMAKE_REQUIRED_INCLUDES ${TENSORRT_INCLUDE_DIR} ${SGMF_CUDA_INCLUDE_DIR})
check_cxx_source_compiles("
  #include <NvInfer.h>
  static_assert(NV_TENSORRT_MAJOR == 11 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 3));
  int main() {}" SGMF_TENSORRT_FITS)
unset(CMAKE_REQUIRED_INCLUDES)
if(NOT SGMF_TENSORRT_FITS)
  message(STATUS "${TENSORRT_INCLUDE_DIR} does not hold headers of TensorRT 10.3 to 11: libsgmf is "
    "built without TensorRT")
  return()
endif()
set(SGMF_HAS_TENSORRT TRUE)
