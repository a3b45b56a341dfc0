# What belongs to which target, by name: *_test.* and *_bench.* are executables, binding/ is the addon, the rest is the core.
# Files named *_avx2.cc and *_avx512.cc are kernels chosen at run time: only they may hold such instructions in a portable build.
# CUDA's are *.cu, *_cuda.cc, *_cuda_test.cc, *_cuda_bench.cc and device/cuda/ but its probe/, which serves builds without CUDA, too.
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}"
  engine/*.cc model/*.cc device/*.cc attention/*.cc kv/*.cc sampling/*.cc artifact/*.cc train/*.cc binding/*.cc test/*.cc bench/*.cc)
file(GLOB_RECURSE SPOTLIGHT_CUDA_SOURCES CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}"
  engine/*.cu model/*.cu device/*.cu attention/*.cu sampling/*.cu train/*.cu bench/*.cu)
set(cuda_hosts ${sources})
list(FILTER cuda_hosts INCLUDE REGEX "(^device/cuda/|_cuda(_test|_bench)?\\.cc$)")
list(FILTER cuda_hosts EXCLUDE REGEX "^device/cuda/probe/")
list(REMOVE_ITEM sources ${cuda_hosts} "")
list(APPEND SPOTLIGHT_CUDA_SOURCES ${cuda_hosts})
set(SPOTLIGHT_TEST_SOURCES ${sources})
list(FILTER SPOTLIGHT_TEST_SOURCES INCLUDE REGEX "_test\\.cc$")
set(SPOTLIGHT_BENCH_SOURCES ${sources})
list(FILTER SPOTLIGHT_BENCH_SOURCES INCLUDE REGEX "_bench\\.cc$")
set(SPOTLIGHT_CUDA_TEST_SOURCES ${SPOTLIGHT_CUDA_SOURCES})
list(FILTER SPOTLIGHT_CUDA_TEST_SOURCES INCLUDE REGEX "_test\\.(cc|cu)$")
set(SPOTLIGHT_CUDA_BENCH_SOURCES ${SPOTLIGHT_CUDA_SOURCES})
list(FILTER SPOTLIGHT_CUDA_BENCH_SOURCES INCLUDE REGEX "_bench\\.(cc|cu)$")
list(FILTER SPOTLIGHT_CUDA_SOURCES EXCLUDE REGEX "_(test|bench)\\.(cc|cu)$")
set(SPOTLIGHT_BINDING_SOURCES ${sources})
list(FILTER SPOTLIGHT_BINDING_SOURCES INCLUDE REGEX "^binding/")
list(FILTER SPOTLIGHT_BINDING_SOURCES EXCLUDE REGEX "_(test|bench)\\.cc$")
set(SPOTLIGHT_CORE_SOURCES ${sources})
list(FILTER SPOTLIGHT_CORE_SOURCES EXCLUDE REGEX "(^binding/|^test/|^bench/|_(test|bench)\\.cc$)")

if(SPOTLIGHT_LEVEL STREQUAL "native")
  set(march "-march=native")
else()
  set(march "-march=${SPOTLIGHT_LEVEL}")
endif()
# No contraction by the compiler: a sum must not depend on which instruction set a file was built for.
set(SPOTLIGHT_CXX_FLAGS ${march} -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror=return-type -Wno-maybe-uninitialized)

# But training may: its results are one build's own, and sums of products are half of its time.
foreach(file IN LISTS sources)
  if(file MATCHES "^train/[^/]*\\.cc$")
    set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "-ffp-contract=fast")
  endif()
endforeach()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2_flags "-mavx2;-mfma;-mf16c;-mbmi;-mbmi2;-mpopcnt;-mlzcnt")
  foreach(file IN LISTS sources)
    if(file MATCHES "_avx2\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${avx2_flags}")
    elseif(file MATCHES "_avx512\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "${avx2_flags};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vpopcntdq;-mprefer-vector-width=512")
    endif()
  endforeach()
else()
  list(FILTER SPOTLIGHT_CORE_SOURCES EXCLUDE REGEX "_avx(2|512)\\.cc$")
endif()
