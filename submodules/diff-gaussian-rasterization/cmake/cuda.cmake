# The CUDA half, `_cuda`: a module of its own, so that `_core` works where there is no GPU.
#
# AUTO compiles it where CUDA's compiler and a GPU are found: a machine without one installs in seconds. The
# CUDA runtime is linked statically, and torch's headers are not needed.

set(GSPLAT_CUDA AUTO CACHE STRING "Compile the CUDA half: AUTO (compiler and GPU found), ON, OFF")
set_property(CACHE GSPLAT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(GSPLAT_CUDA_ARCHITECTURES native CACHE STRING
    "GPUs to compile for: native (those of this machine), all (sm_75 to sm_120), or a list such as 80;90")

# Whether this machine has a GPU, whatever the state of its compiler.
function(gsplat_find_gpu result)
  set(${result} FALSE PARENT_SCOPE)
  find_program(GSPLAT_NVIDIA_SMI nvidia-smi)
  if(EXISTS /dev/nvidia0)
    set(${result} TRUE PARENT_SCOPE)
  elseif(GSPLAT_NVIDIA_SMI)
    execute_process(COMMAND "${GSPLAT_NVIDIA_SMI}" -L RESULT_VARIABLE status OUTPUT_VARIABLE gpus ERROR_QUIET)
    if(status EQUAL 0 AND gpus MATCHES "GPU 0")
      set(${result} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

# The architectures as CMake wants them: machine code for every GPU, PTX of the newest one for later GPUs.
function(gsplat_cuda_architectures gpu result)
  set(architectures "${GSPLAT_CUDA_ARCHITECTURES}")
  if(architectures STREQUAL "native" AND NOT gpu)
    message(STATUS "GSPLAT_CUDA: no GPU here to compile for, so for all")
    set(architectures all)
  endif()
  if(architectures STREQUAL "all")
    set(architectures 75-real 80-real 86-real 89-real 90)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      set(architectures 75-real 80-real 86-real 89-real 90-real 100-real 120)
    endif()
  endif()
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

function(gsplat_add_cuda)
  find_package(CUDAToolkit REQUIRED)
  file(GLOB sources CONFIGURE_DEPENDS src/cuda/*.cu src/cuda/*.cpp)
  nanobind_add_module(_cuda STABLE_ABI NOMINSIZE ${sources})
  target_compile_features(_cuda PRIVATE cxx_std_20)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # older CMake does not know that nvcc has C++20
    target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  endif()
  target_include_directories(_cuda PRIVATE include src src/cuda)
  target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
  gsplat_cuda_architectures("${gpu}" architectures)
  set_target_properties(_cuda PROPERTIES CUDA_ARCHITECTURES "${architectures}" CUDA_RUNTIME_LIBRARY Static
                        CUDA_VISIBILITY_PRESET hidden)
  install(TARGETS _cuda LIBRARY DESTINATION gsplatloc_kernels)
  message(STATUS "GSPLAT_CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, GPUs ${architectures}")
endfunction()

if(NOT GSPLAT_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  gsplat_find_gpu(gpu)
  if(gpu OR GSPLAT_CUDA STREQUAL "ON")
    # No default for CMake's check of the compiler: the target sets its own architectures.
    set(CMAKE_CUDA_ARCHITECTURES OFF)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      gsplat_add_cuda()
    elseif(GSPLAT_CUDA STREQUAL "ON")
      message(FATAL_ERROR "GSPLAT_CUDA=ON, but nvcc was not found: install CUDA 12 or newer and put nvcc on the "
                          "PATH, or name it by CUDACXX")
    else()
      message(STATUS "GSPLAT_CUDA: a GPU, but no nvcc: for the CPU only")
    endif()
  else()
    message(STATUS "GSPLAT_CUDA: no GPU found: for the CPU only")
  endif()
endif()
