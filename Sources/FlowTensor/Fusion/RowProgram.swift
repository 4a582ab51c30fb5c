/// What a fused group computes: instructions of a small register machine over blocks of rows. A backend interprets it
/// (CPU) or prints it as a kernel's source (CUDA).
package struct RowProgram: Sendable {
  /// A value's extent within the group: `width` elements per row, one per row, or one in all rows.
  package enum Extent: Sendable, Hashable {
    case full, small
    /// The sum of all rows, `width` elements; only an output.
    case columns
    /// The sum of all elements; only an output.
    case total
  }

  /// How an input lies in memory.
  package enum Access: Sendable, Hashable {
    case dense
    case strided(Pattern)
  }

  /// Where a register's block is.
  package enum Place: Sendable, Hashable {
    case scratch
    case input(Int, Access)
    case output(Int)
  }

  package struct Register: Sendable {
    package let extent: Extent
    package let place: Place
    /// The block of scratch memory of what is computed there or gathered; registers whose lives don't overlap share one.
    package internal(set) var slot = 0
  }

  package enum Code: Sendable, Hashable {
    case unary(UnaryFunction)
    case binary(BinaryFunction)
    case affine(scale: Float, offset: Float)
    case expand, rowSum, rowMaximum, columnSum, totalSum
    /// The sum along a row of products of two full operands, and e to the power of a full less a small one: what would be
    /// two instructions, made of them where nothing else reads the first's result.
    case rowProduct, exponentialBelow
    /// The halves (a, b) of each row as (-b, a).
    case turn
  }

  package struct Instruction: Sendable {
    package let code: Code
    package let to: Int
    package let a: Int
    /// The second operand of a binary function, else `a`.
    package let b: Int
  }

  package let rows: Int
  package let width: Int
  package internal(set) var registers: [Register] = []
  package internal(set) var instructions: [Instruction] = []
  /// Scratch blocks wanted.
  package internal(set) var slots = 0

  /// Most ranges that rows are split in for column and total sums.
  package static let mostRanges = 64
  /// The widest row, if a backend doesn't say: a block of a few registers must fit a cache.
  package static let mostWidth = 8192

  init(rows: Int, width: Int) {
    self.rows = rows
    self.width = width
  }

  /// Elements from which a result is larger than a cache would hold.
  package static let streamed = 1 << 22

  /// Rows of a block: enough that the work of an instruction outweighs its start, few enough for the nearest cache.
  package var block: Int { max(1, min(1024, max(256, 2560 / (slots + 1))) / width) }
}

/// Addresses of a dense index: `shape`, outermost first, with the stride of each axis, from `offset`. Axes are merged
/// where they can be.
package struct Pattern: Sendable, Hashable {
  /// Most axes that a fused group reads by.
  static let mostAxes = 6
  package private(set) var shape: [Int] = []
  package private(set) var strides: [Int] = []
  package let offset: Int

  package init(shape full: [Int], strides given: [Int], offset: Int = 0) {
    self.offset = offset
    for (count, step) in zip(full, given) where count != 1 {
      if let last = strides.last, last == step * count {
        shape[shape.count - 1] *= count
        strides[strides.count - 1] = step
      } else {
        shape.append(count)
        strides.append(step)
      }
    }
    if shape.isEmpty {
      shape = [1]
      strides = [0]
    }
  }

  /// The elements of `shape` in order.
  package init(dense shape: [Int]) {
    self.init(shape: [shape.elements], strides: [1])
  }

  /// Whether it is one element per row of `width`, in order.
  func isPerRow(_ width: Int) -> Bool {
    guard offset == 0, shape.last == width, strides.last == 0 else { return width == 1 && isDense }
    return shape.count == 1 || (shape.count == 2 && strides[0] == 1)
  }

  /// Whether it is the elements in order, from the first.
  package var isDense: Bool { offset == 0 && shape.count == 1 && (strides[0] == 1 || shape[0] == 1) }
}
