// What `wide.cu` and `near.cu` are told of a convolution, and how they write its result.

/// A tap: rows and columns to its input, the same in granules of 8 channels, and its number in the weight.
struct alignas(16) Tap {
  int down, right, shift, number;
};

/// A phase of the result: its first tap and their number (at most 32), the first row and column, rows, columns, and the
/// least that its taps go down and right.
struct alignas(16) Phase {
  int first, count, row, column, rows, columns, down, right;
};

/// Eight neighbours, both at a multiple of 16 bytes.
DEVICE void copy8(float *to, const float *from) {
  *(Quad *)to = *(const Quad *)from, *(Quad *)(to + 4) = *(const Quad *)(from + 4);
}
DEVICE void copy8(bf16 *to, const bf16 *from) { *(Quad *)to = *(const Quad *)from; }
