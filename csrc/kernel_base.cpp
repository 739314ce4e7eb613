// Any processor: codes widened to int16, a tile of 4 x 8.
#include "vectors_base.h"
#define MR 4
#define VECS 2
#define GROUP 2
#define OFFSET 0
#define KERNEL kernel_base
#define KERNEL_NAME "base"
#include "kernel.inl"
