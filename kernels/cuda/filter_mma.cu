// The tile that filter_mma.cuh is launched with.
#include "filter_mma.cuh"

namespace gpu {

// 64 x 64 sums a warp, four warps a block, two blocks a processor: while one compares, the other multiplies.
void filter_mma(const FilterTask& task, Stream stream) {
  constexpr int ROWS = 128, COLUMNS = MMA_TILE, STAGES = 4, RUN = 16;
  using Shape = Mma<ROWS, COLUMNS, STAGES>;
  launch("filter_mma", filter_mma_kernel<ROWS, COLUMNS, STAGES, RUN>, FilterGrid<ROWS, COLUMNS, RUN>(task).blocks(),
         Shape::THREADS, Shape::SHARED, stream, 1, task);
}

}  // namespace gpu
