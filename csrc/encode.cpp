#include "encode.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <new>

namespace {

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

}  // namespace

Rotation Codebook::rotation() const {
  const int64_t width = int64_t(sign.size()) / 2, span = int64_t(std::bit_floor(uint64_t(width)));
  return {int64_t(centre.size()), width, span, centre.data(), sign.data(), float(1.0 / std::sqrt(double(span))), gain};
}

double Codebook::factor() const {
  const Rotation r = rotation();
  return r.span < r.width ? double(gain) : double(gain) * std::sqrt(double(r.span));
}

Codes::Codes(const Kernel& kernel, const Codebook& book, int64_t n)
    : kernel(&kernel), n(n), width(int64_t(book.sign.size()) / 2), groups(round_up(width / kernel.group, kernel.step)),
      panels(aligned_bytes(panel_count() * panel_bytes())),
      error(n), panel_error(panel_count()) {
  for (int s = 0; s < STOPS; ++s) norm[s].resize(n), base[s].resize(n);
}

void Codes::encode(const Source& source, const uint32_t* which, int64_t first, const Codebook& book, int64_t from,
                   int64_t to, std::vector<float>& workspace) {
  const Rotation rotation = book.rotation();
  const int nr = kernel->nr, group = kernel->group;
  const int64_t codes = groups * group, padded = round_up(codes, 16) + 16;
  workspace.resize(source.d + padded + padded / 4 + 4);
  float *const scratch = workspace.data(), *const y = scratch + source.d;
  int8_t* const code = reinterpret_cast<int8_t*>(y + padded);

  for (int64_t number = from; number < to; ++number) {
    uint8_t* const panel = panels.get() + number * panel_bytes();
    panel_error[number] = 0;
    for (int64_t j = 0; j < nr; ++j) {
      const int64_t i = number * nr + j;
      if (i < n) {
        const float* row = source.row(which ? which[i] : first + i, scratch, *kernel);
        error[i] = kernel->encode(row, rotation, y, code);
        std::memset(code + width, 0, codes - width);
        panel_error[number] = std::max(panel_error[number], error[i]);
        int32_t squares = 0, sum = 0;
        for (int64_t s = 0, p = 0; s < STOPS; ++s) {
          for (const int64_t end = groups_to(s, groups, kernel->step) * group; p < end; ++p)
            squares += int32_t(code[p]) * code[p], sum += code[p];
          norm[s][i] = squares, base[s][i] = (squares >> 1) + kernel->offset * sum;
        }
      } else {
        std::memset(code, 0, codes);
      }
      for (int64_t p = 0; p < codes; ++p) code[p] = int8_t(code[p] + kernel->offset);
      if (group == 4)
        for (int64_t g = 0; g < groups; ++g) std::memcpy(panel + (g * nr + j) * 4, code + g * 4, 4);
      else
        for (int64_t g = 0; g < groups; ++g) std::memcpy(panel + (g * nr + j) * 2, code + g * 2, 2);
    }
  }
}

void Codes::pack(int64_t first, int32_t* words) const {
  const int mr = kernel->mr, nr = kernel->nr, group = kernel->group, step = kernel->step;
  for (int64_t i = 0; i < mr; ++i) {
    const int64_t row = first + i;
    const uint8_t* at = row < n ? panel(row / nr) + (row % nr) * group : nullptr;
    for (int64_t g = 0; g < groups; ++g) {
      int32_t word = 0;
      if (at && group == 4) {
        std::memcpy(&word, at + g * nr * 4, 4);
        if (kernel->offset) word ^= int32_t(0x80808080u);  // back to signed
      } else if (at) {
        const int8_t* two = reinterpret_cast<const int8_t*>(at + g * nr * 2);
        word = int32_t(uint16_t(two[0])) | int32_t(two[1]) * 65536;
      }
      words[(g / step * mr + i) * step + g % step] = word;
    }
  }
}

void Codes::starts(const Columns& columns, int32_t* start) const {
  const int nr = kernel->nr;
  for (int s = 0; s < STOPS; ++s)
    for (int64_t j = 0; j < nr; ++j) {
      const int64_t at = columns.panel * nr + j;
      start[s * nr + j] = at >= columns.begin && at < columns.end ? -(norm[s][at] >> 1) : NEVER;
    }
}
