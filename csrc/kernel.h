// The arithmetic of the search, once per instruction set (kernel_*.cpp, all from kernel.inl).
#pragma once
#include <cstdint>
#include <vector>

constexpr int32_t NEVER = -(1 << 30);       // a start from which no column passes, whatever its products
constexpr int32_t ALWAYS = 1 << 29;         // half of a squared reach that every pair is within
constexpr int32_t ABSENT = INT32_MAX;       // base and limit of a row that takes no part
constexpr int64_t MAX_WIDTH = 1 << 14;      // (2 * 127)^2 * MAX_WIDTH / 2 < ALWAYS, and no sum leaves int32
constexpr int BLOCK_UNIT = 96;              // rows of a block come in multiples of this: every mr and nr divides it

// Places on the way along a row where a tile may be left: after each quarter of the codes. A distance over some
// of the coordinates bounds the whole one from below, and after the rotation all coordinates weigh alike, so
// most tiles of far rows end early.
constexpr int STOPS = 4, LAST = STOPS - 1;

// Groups of codes up to a stop: its quarters, in whole steps of the kernel.
static inline int64_t groups_to(int stop, int64_t groups, int step) { return groups / step * (stop + 1) / STOPS * step; }

// A register tile: mr rows against the nr columns of one panel. Up to a stop, of a pair with codes q_i, q_j
//     value = q_i . q_j + (base_i - |q_i|^2 / 2) - |q_j|^2 / 2,   so   |q_i - q_j|^2 = 2 (base_i - value)
// (halves rounded down, all over the codes up to there). The pair concerns row i where
// value >= row_limit_i, and column j where value + column_reach_j >= base_i.
struct Tile {
  const int32_t* rows;          // packed codes [groups / step][mr][step], one word a group
  const uint8_t* panel;         // packed codes [groups][nr][group]
  int64_t groups;
  const int32_t* start;         // [STOPS][nr]: -|q_j|^2 / 2, NEVER on padding
  const int32_t* row_limit;     // [STOPS][mr], a stop every row_step
  const int32_t* base;          // likewise
  int64_t row_step;
  const int32_t* column_reach;  // [nr]; null where columns take nothing
  uint32_t stops;               // bit s: look at stop s; LAST is always looked at
  int32_t* value;               // out [mr][nr], up to LAST
  uint32_t* hit;                // out [mr], bit j: the pair concerns its row or its column
};

// One row's way to its codes; see clipscan/engine/reference.py:encode.
struct Rotation {
  int64_t d, width, span;        // span: the largest power of two in width
  const float* centre;           // [d]
  const float* sign;             // [2, width]: before each of the two transforms
  float shrink, gain;            // fl(1 / sqrt(span)), used where span < width; codes per unit
};

struct Kernel {
  const char* name;
  int mr, nr;
  int group;   // neighbouring codes of a row that share a 32-bit word of packed rows: 4 int8 or 2 int16
  int step;    // neighbouring groups of a row that one instruction takes; a row's groups are padded to a multiple
  int offset;  // added to the codes of a panel (128 where the instruction wants them unsigned)
  int look;    // groups whose products take as long as a look at a stop; 0: an eighth of a quarter

  // Around multiply and filter, by the thread that calls them (KernelHold); pairs may nest. Null: nothing to do.
  void (*enter)();
  void (*leave)();

  void (*multiply)(const Tile&);  // value only
  bool (*compare)(const Tile&);   // hit from value; whether there is any
  int (*filter)(const Tile&);     // both at once: the stop that showed that there is no hit, else STOPS

  // row [d] -> code [width]; returns |y - code|, rounded up. y and code have room for 16 more.
  float (*encode)(const float* row, const Rotation& rotation, float* y, int8_t* code);

  // out[c] = sum_p (x_p - y[c]_p)^2 for four rows. One fixed order of summation (sixteen lanes, then
  // a tree), so that every instruction set reports the same bits.
  void (*measure4)(const float* x, const float* const* y, int64_t d, float* out);

  void (*widen)(const uint16_t* half, int64_t d, float* out);  // IEEE float16 -> float32

  int64_t (*spin_codes)(int64_t rounds);  // multiplications and additions done on registers alone: the
  int64_t (*spin_floats)(int64_t rounds); // peaks that bench compares with
};

extern const Kernel kernel_base, kernel_avx2, kernel_avxvnni, kernel_avx512, kernel_amx, kernel_neon;
extern const Kernel kernel_amx_plain;  // kernel_amx in plain C++, for tests; runs anywhere, and is never chosen

// What a thread needs to call multiply and filter: made and ended by that thread.
class KernelHold {
 public:
  explicit KernelHold(const Kernel& kernel) : leave_(kernel.leave) {
    if (kernel.enter) kernel.enter();
  }
  KernelHold(const KernelHold&) = delete;
  KernelHold& operator=(const KernelHold&) = delete;
  ~KernelHold() {
    if (leave_) leave_();
  }

 private:
  void (*const leave_)();
};

#if defined(__x86_64__)
bool has_avx512_vnni();  // what kernel_avx512 needs
#endif

// What this processor can run, fastest first.
std::vector<const Kernel*> usable_kernels();
