# CUDA as a language, and the headers its sources include, as the target spotlight_cuda_headers. Each is looked for where a variable
# (or the environment) names it, in a toolkit of the system (13.0 or newer), in folders laid out as site-packages
# (SPOTLIGHT_CUDA_PACKAGES, Python's own), and at last fetched by scripts/cuda.mjs. Nothing here links a library of NVIDIA's but the
# static CUDA runtime: cuBLASLt, cuDNN and the driver are opened when the engine runs.
set(SPOTLIGHT_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPU architectures; PTX of 80 serves GPUs newer than all named")
set(SPOTLIGHT_CUDA_OLDEST 13.0)

foreach(name CUDAToolkit_ROOT CUDA_HOME FLASHINFER_ROOT CUTLASS_ROOT CUDNN_ROOT CUDNN_FRONTEND_ROOT CUBLAS_ROOT CURAND_ROOT
        SPOTLIGHT_CUDA_PACKAGES)
  if(NOT ${name} AND DEFINED ENV{${name}})
    string(REPLACE ":" ";" ${name} "$ENV{${name}}")
  endif()
endforeach()

set(sites ${SPOTLIGHT_CUDA_PACKAGES})
find_program(PYTHON3_EXECUTABLE NAMES python3)
if(PYTHON3_EXECUTABLE)
  execute_process(
    COMMAND "${PYTHON3_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND sites "${site}")
endif()

# Fetches a part of what scripts/cuda.mjs knows and adds its folder to `sites`.
macro(spotlight_fetch_cuda part)
  find_program(NODE_EXECUTABLE NAMES node)
  if(NOT NODE_EXECUTABLE)
    message(FATAL_ERROR "CUDA: ${part} was not found, and without node it cannot be fetched; set ${ARGN}")
  endif()
  execute_process(
    COMMAND "${NODE_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/scripts/cuda.mjs" ${part}
    OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "CUDA: ${part} could not be fetched (see above); set ${ARGN}")
  endif()
  list(APPEND sites "${site}")
endmacro()

# --- The compiler -------------------------------------------------------------------------------------------------------------

# Sets `out` to nvcc's version, or to nothing when it is not there, does not run or is too old.
function(spotlight_nvcc_version nvcc out)
  set(${out} "" PARENT_SCOPE)
  if(EXISTS "${nvcc}")
    execute_process(COMMAND "${nvcc}" --version OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE status)
    if(status EQUAL 0 AND text MATCHES "release [0-9.]+, V([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL SPOTLIGHT_CUDA_OLDEST)
      set(${out} "${CMAKE_MATCH_1}" PARENT_SCOPE)
    endif()
  endif()
endfunction()

if(NOT CMAKE_CUDA_COMPILER)
  find_program(nvcc_on_path NAMES nvcc NO_CACHE)
  set(candidates)
  foreach(root ${CUDAToolkit_ROOT} ${CUDA_HOME})
    list(APPEND candidates "${root}/bin/nvcc")
  endforeach()
  list(APPEND candidates "$ENV{CUDACXX}" "${nvcc_on_path}" /usr/local/cuda/bin/nvcc)
  foreach(site IN LISTS SPOTLIGHT_CUDA_PACKAGES)
    list(APPEND candidates "${site}/nvidia/cu13/bin/nvcc")
  endforeach()
  foreach(candidate IN LISTS candidates)
    get_filename_component(candidate "${candidate}" REALPATH)  # nvcc finds its toolkit from where it lies
    spotlight_nvcc_version("${candidate}" version)
    if(version)
      set(CMAKE_CUDA_COMPILER "${candidate}")
      break()
    endif()
  endforeach()
  if(NOT CMAKE_CUDA_COMPILER)
    spotlight_fetch_cuda(toolkit "CUDAToolkit_ROOT to a toolkit of ${SPOTLIGHT_CUDA_OLDEST} or newer")
    set(CMAKE_CUDA_COMPILER "${site}/nvidia/cu13/bin/nvcc")
    spotlight_nvcc_version("${CMAKE_CUDA_COMPILER}" version)
    if(NOT version)
      message(FATAL_ERROR "CUDA: the fetched ${CMAKE_CUDA_COMPILER} does not run; remove ${site} and try again")
    endif()
  endif()
  message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} (${version}) for ${SPOTLIGHT_CUDA_ARCHITECTURES}")
endif()
set(CMAKE_CUDA_ARCHITECTURES ${SPOTLIGHT_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(NOT CMAKE_CUDA_HOST_COMPILER)
  set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
get_filename_component(toolkit "${CMAKE_CUDA_COMPILER}" REALPATH)
get_filename_component(toolkit "${toolkit}" DIRECTORY)
get_filename_component(toolkit "${toolkit}" DIRECTORY)
set(toolkit_places "${toolkit}" "${toolkit}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux")

# --- Headers ------------------------------------------------------------------------------------------------------------------

# Finds the folder that holds `header` under the roots of variable `root`, the toolkit or the sites; fetches `part` when nowhere.
macro(spotlight_cuda_headers result header root part)
  foreach(attempt found fetched)
    set(places ${${root}} ${toolkit_places})
    foreach(site IN LISTS sites)
      list(APPEND places "${site}" "${site}/nvidia/cu13" "${site}/nvidia/cudnn" "${site}/flashinfer/data"
        "${site}/flashinfer/data/cutlass")
    endforeach()
    find_path(${result} "${header}" HINTS ${places} PATH_SUFFIXES include ${ARGN} NO_DEFAULT_PATH)
    find_path(${result} "${header}")
    if(NOT ${result} AND attempt STREQUAL "found")
      spotlight_fetch_cuda(${part} "${root} to the folder with include/${header}")
    endif()
  endforeach()
  if(NOT ${result})
    message(FATAL_ERROR "CUDA: ${header} was not found; set ${root} to the folder with include/${header}")
  endif()
endmacro()

spotlight_cuda_headers(SPOTLIGHT_CUBLAS_INCLUDE cublasLt.h CUBLAS_ROOT toolkit)
spotlight_cuda_headers(SPOTLIGHT_CURAND_INCLUDE curand_kernel.h CURAND_ROOT toolkit)
spotlight_cuda_headers(SPOTLIGHT_CUDNN_INCLUDE cudnn.h CUDNN_ROOT cudnn)
spotlight_cuda_headers(SPOTLIGHT_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h CUDNN_FRONTEND_ROOT cudnn)
spotlight_cuda_headers(SPOTLIGHT_FLASHINFER_INCLUDE flashinfer/page.cuh FLASHINFER_ROOT flashinfer data/include)
list(APPEND CUTLASS_ROOT ${FLASHINFER_ROOT})
spotlight_cuda_headers(SPOTLIGHT_CUTLASS_INCLUDE cutlass/cutlass.h CUTLASS_ROOT flashinfer
  cutlass/include data/cutlass/include 3rdparty/cutlass/include)

add_library(spotlight_cuda_headers INTERFACE)
# The toolkit first: a folder of packages may hold another version of its headers beside those wanted from there.
target_include_directories(spotlight_cuda_headers SYSTEM INTERFACE
  ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} "${SPOTLIGHT_FLASHINFER_INCLUDE}" "${SPOTLIGHT_CUTLASS_INCLUDE}"
  "${SPOTLIGHT_CUTLASS_INCLUDE}/../tools/util/include" # FlashInfer's kernels for Hopper include CUTLASS's command line
  "${SPOTLIGHT_CUBLAS_INCLUDE}" "${SPOTLIGHT_CURAND_INCLUDE}" "${SPOTLIGHT_CUDNN_INCLUDE}" "${SPOTLIGHT_CUDNN_FRONTEND_INCLUDE}")

# Where the libraries lie on the machine that builds: the last places in which the engine looks for them.
set(SPOTLIGHT_CUDA_LIBRARY_FOLDERS)
foreach(folder IN LISTS toolkit_places)
  list(APPEND SPOTLIGHT_CUDA_LIBRARY_FOLDERS "${folder}/lib64" "${folder}/lib")
endforeach()
foreach(site IN LISTS sites)
  list(APPEND SPOTLIGHT_CUDA_LIBRARY_FOLDERS "${site}/nvidia/cu13/lib" "${site}/nvidia/cudnn/lib")
endforeach()
list(REMOVE_DUPLICATES SPOTLIGHT_CUDA_LIBRARY_FOLDERS)
list(JOIN SPOTLIGHT_CUDA_LIBRARY_FOLDERS ":" library_folders)
set_source_files_properties(device/cuda/probe/dynamic_library.cc PROPERTIES
  COMPILE_DEFINITIONS "SPOTLIGHT_CUDA_LIBRARY_FOLDERS=\"${library_folders}\"")
list(JOIN SPOTLIGHT_CUDA_ARCHITECTURES "," architectures)
set_source_files_properties(device/cuda/probe/devices.cc PROPERTIES
  COMPILE_DEFINITIONS "SPOTLIGHT_CUDA_ARCHITECTURES=\"${architectures}\"")

# --- Flags --------------------------------------------------------------------------------------------------------------------

# Host code as SPOTLIGHT_CXX_FLAGS has it but for the instruction set, which nvcc's front end does not read. Device code keeps fused
# multiply-add: a kernel that must give the CPU's very bits says so with __fmul_rn and __fadd_rn, which are never fused.
set(SPOTLIGHT_CUDA_FLAGS -O3 -lineinfo --expt-relaxed-constexpr --display-error-number --Wreorder
  -Werror=cross-execution-space-call
  "SHELL:-Xcompiler -ffp-contract=off,-fno-math-errno,-Wall,-Wextra,-Wno-maybe-uninitialized,-Wno-unknown-pragmas")
list(LENGTH SPOTLIGHT_CUDA_ARCHITECTURES count)
if(count GREATER 1)
  list(APPEND SPOTLIGHT_CUDA_FLAGS --threads=${count})
endif()
set(SPOTLIGHT_CUDA_OPTIONS "$<$<COMPILE_LANGUAGE:CUDA>:${SPOTLIGHT_CUDA_FLAGS}>" "$<$<COMPILE_LANGUAGE:CXX>:${SPOTLIGHT_CXX_FLAGS}>")
