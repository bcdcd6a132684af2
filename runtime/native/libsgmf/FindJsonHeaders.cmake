# SGMF_JSON_INCLUDE_DIR: the folder of nlohmann/json.hpp, from PyPI's package nlohmann-json, which
# holds the headers and is a requirement of the Python build, or from the system.
set(SGMF_JSON_INCLUDE_DIR "" CACHE PATH "Folder that holds nlohmann/json.hpp")
if(SGMF_JSON_INCLUDE_DIR)
  return()
endif()

set(interpreter ${PYTHON_EXECUTABLE})  # that of the Python build
if(NOT interpreter)
  find_program(SGMF_PYTHON python3)  # that of an active virtual environment, else the system's
  set(interpreter ${SGMF_PYTHON})
endif()
set(of_python "")
if(interpreter)
  execute_process(OUTPUT_VARIABLE of_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
    COMMAND ${interpreter} -c "import importlib.util as u; \
print(u.find_spec('nlohmann_json').submodule_search_locations[0] + '/include')")
endif()
# Looked for anew each time: an isolated build of Python's has them in a folder that goes.
unset(SGMF_JSON_INCLUDE CACHE)
find_path(SGMF_JSON_INCLUDE nlohmann/json.hpp HINTS ${of_python})
if(NOT SGMF_JSON_INCLUDE)
  message(FATAL_ERROR "nlohmann/json.hpp is missing: apt-get install nlohmann-json3-dev, or pip "
    "install nlohmann-json, or set SGMF_JSON_INCLUDE_DIR")
endif()
set(SGMF_JSON_INCLUDE_DIR ${SGMF_JSON_INCLUDE})
message(STATUS "JSON headers: ${SGMF_JSON_INCLUDE_DIR}")
