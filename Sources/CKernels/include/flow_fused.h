#ifndef FLOW_FUSED_H
#define FLOW_FUSED_H

// A group of elementwise operations and row reductions as one pass over memory: a small register machine whose
// registers are blocks of a few rows, so that values inside the group never leave the first-level cache.

/// What a register is. "Full" registers hold `width` elements per row, "small" ones hold one.
enum {
  FLOW_REGISTER_FULL,      ///< a temporary
  FLOW_REGISTER_SMALL,     ///< a temporary
  FLOW_REGISTER_IN,        ///< full, in memory, dense
  FLOW_REGISTER_IN_SMALL,  ///< small, in memory, dense
  FLOW_REGISTER_STRIDED,   ///< full, gathered from memory by `shape` and `stride`
  FLOW_REGISTER_STRIDED_SMALL,
  FLOW_REGISTER_OUT,
  FLOW_REGISTER_OUT_SMALL,
  FLOW_REGISTER_COLUMNS,  ///< an output of `width` elements, the sum of all rows
  FLOW_REGISTER_TOTAL     ///< an output of one element, the sum of all
};

/// Instructions: UnaryFunction's and (from FLOW_BINARY) BinaryFunction's raw values, and these.
enum {
  FLOW_AFFINE = 32,  ///< a * scale + offset
  FLOW_BINARY = 40,
  FLOW_EXPAND = 60,  ///< a row's element, `width` times
  FLOW_ROW_SUM,
  FLOW_ROW_MAX,
  FLOW_COLUMN_SUM,
  FLOW_TOTAL_SUM,
  FLOW_ROW_PRODUCT,  ///< the sum along a row of a * b, both full
  FLOW_EXP_BELOW,    ///< e to the power of a - b, a full and b small
  FLOW_TURN          ///< the halves (a, b) of each row as (-b, a)
};

typedef struct {
  int op, to, a, b;
  float scale, offset;
} flow_instruction;

typedef struct {
  int kind;
  /// FULL and SMALL: which block of scratch memory.
  int slot;
  float *memory;
  /// COLUMNS, TOTAL: memory for flow_fused_ranges partial sums.
  float *partial;
  int rank;
  long shape[6], stride[6];
} flow_register;

typedef struct {
  long rows, width;
  /// Rows of a block, and scratch blocks.
  long block;
  int slots;
  int instructions, registers;
  const flow_instruction *instruction;
  const flow_register *reg;
} flow_fused_plan;

/// One block on the calling thread: y is an operand's memory or apart from it; the strides are 0 or 1.
void flow_unary_block(int function, float *y, const float *x, long count);
void flow_affine_block(float *y, const float *x, float scale, float offset, long count);
void flow_binary_block(int function, float *y, const float *a, long sa, const float *b, long sb, long count);

/// How many partial sums a column or total sum makes; depends on the plan's sizes only.
long flow_fused_ranges(long rows, long width, long block);
/// At most FLOW_FUSED_REGISTERS registers.
enum { FLOW_FUSED_REGISTERS = 256 };
void flow_fused(int threads, const flow_fused_plan *plan);

#endif
