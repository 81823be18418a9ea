// Declares the functions that are compiled once per instruction set, in the namespace of that set.
#pragma once

#include "kernels.h"

#define SPLAT_DECLARE_KERNELS(ISA)                                                                     \
  namespace splat {                                                                                    \
  namespace ISA {                                                                                      \
  int64_t project_float(const ProjectJob<float>&, int64_t, int64_t);                                   \
  int64_t project_double(const ProjectJob<double>&, int64_t, int64_t);                                 \
  void project_backward_float(const ProjectBackwardJob<float>&, int64_t, int64_t, double*);            \
  void project_backward_double(const ProjectBackwardJob<double>&, int64_t, int64_t, double*);          \
  void find_rows_float(const Raster<float>&, const Splat<float>*, const uint32_t*, int, TileRows&);    \
  void find_rows_double(const Raster<double>&, const Splat<double>*, const uint32_t*, int, TileRows&); \
  int64_t render_float(Tile<float>&, TileScratch<float>&);                                             \
  int64_t render_double(Tile<double>&, TileScratch<double>&);                                          \
  void render_backward_float(const Tile<float>&, TileScratch<float>&);                                 \
  void render_backward_double(const Tile<double>&, TileScratch<double>&);                              \
  }                                                                                                    \
  }

#if defined(SPLAT_ISA)
SPLAT_DECLARE_KERNELS(SPLAT_ISA)
#endif
