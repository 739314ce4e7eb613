// A picture brought to another size by bicubic or bilinear weights, as Pillow's Image.resize does it, to the bit:
// whole numbers of 22 fractional bits, across first, rounded to 8 bits, then down. It is faster because only the part
// that is kept is made, and because one instruction weighs several pixels.
//
// Pillow 13 goes down first where a picture loses more than twice as many rows as columns, which rounds otherwise;
// clipscan/embed/pixels.py leaves those to Pillow.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

struct Picture {
  const uint8_t* pixels;  // [height, width, 4], of which the last byte is not looked at
  int64_t width, height;
};

// The picture is scaled to full_width x full_height, of which [top, top + height) x [left, left + width) is wanted.
struct Wanted {
  int64_t full_width, full_height, left, top, width, height;
  bool cubic;  // Keys' kernel of a = -1/2, 4 pixels wide; else a triangle 2 wide. Both widen where pixels are lost.
};

constexpr int FRACTION_BITS = 22;  // of a weight. |weight| < 1.2, so a sum of 255 of them stays in int32
constexpr int LOW_BITS = 11;       // a weight is high * 2^11 + low, two int16 for instructions that multiply those

// The pixels of one axis that each pixel of the result is a weighted sum of.
struct Taps {
  int64_t room;                   // int16 of high and of low that a pixel has: even, 0 where not used
  std::vector<int64_t> first;     // [n]
  std::vector<int64_t> count;     // [n]
  std::vector<int16_t> high, low; // [n, room]
};

struct Weighing {
  const char* name;
  // rows x [*, 4] bytes a stride apart -> rows x [n, 3] bytes an out_stride apart, each with room for one byte more
  void (*across)(const uint8_t* from, int64_t stride, int64_t rows, const Taps&, uint8_t* out, int64_t out_stride);
  // count x [width] bytes a stride apart -> [width] bytes; rows and out have room for 32 more
  void (*down)(const uint8_t* from, int64_t stride, int64_t count, const int16_t* high, const int16_t* low,
               int64_t width, uint8_t* out);
};

extern const Weighing weighing_base, weighing_ssse3, weighing_avx2;

// Those that this processor can run, the fastest first; all give the same bytes.
std::vector<const Weighing*> usable_weighings();

// out [height, width, 3]
void resample(const Weighing&, const Picture&, const Wanted&, uint8_t* out);
