import FlowTensor
import Foundation

extension KernelTable {
  static func spectra(_ op: any Op, _ c: StepContext) -> Work? {
    guard (c.inputs + c.outputs).allSatisfy({ $0.dtype == .float32 }) else { return nil }
    switch op {
    case let op as Fourier: return fourier(op, c)
    case let op as FourierBack: return fourierBack(op, c)
    default: return nil
    }
  }

  /// How frames of `size` samples are transformed.
  private struct Plan {
    let size: Int
    /// A power of two that shared memory holds; others go by the definition.
    let isFast: Bool
    var log: Int { size.trailingZeroBitCount }
    /// The logarithm of the number of pairs of frames in a block.
    var more: Int { max(0, 10 - log) }
    /// Two complex arrays in turn.
    var shared: Int { 16 * size << more }
    let turns: Argument

    init(_ size: Int) {
      self.size = size
      isFast = size & (size - 1) == 0 && size >= 16 && size <= 8192
      turns = .table(
        (0..<size).map { k in
          let angle = 2 * Double.pi * Double(k) / Double(size)
          return UInt64(Float(cos(angle)).bitPattern) | UInt64(Float(-sin(angle)).bitPattern) << 32
        })
    }

    func launch(_ entry: String, _ frames: Int, _ arguments: [Argument]) -> Launch {
      Launch(
        Kernel("fourier", entry), count: frames, each: 2 << more, threads: 256, shared: shared,
        arguments + [.int(Int32(log)), .int(Int32(more))])
    }

    func direct(_ entry: String, _ frames: Int, across: Int, _ arguments: [Argument]) -> Launch {
      Launch(
        Kernel("fourier", entry + "_direct"), grid: (frames * ((across + 255) / 256), 1, 1), threads: 256,
        arguments + [.long(Int64(size))])
    }
  }

  private static func fourier(_ op: Fourier, _ c: StepContext) -> Work? {
    let (x, window, re, im) = (c.inputs[0], c.inputs[1], c.outputs[0], c.outputs[1])
    let plan = Plan(window.count)
    let (length, frames) = (x.shape[x.shape.count - 1], re.shape[re.shape.count - 2])
    let count = re.count / (window.count / 2 + 1)
    let first =
      [re, im, x, window].map(\.argument) + [plan.turns, .long(Int64(length)), .long(Int64(frames))]
    let hop = Argument.long(Int64(op.hop))
    return Work(launches: [
      plan.isFast
        ? plan.launch("fourier", count, first + [.long(Int64(count)), hop])
        : plan.direct("fourier", count, across: window.count / 2 + 1, first + [hop])
    ])
  }

  private static func fourierBack(_ op: FourierBack, _ c: StepContext) -> Work? {
    let (re, im, window, y) = (c.inputs[0], c.inputs[1], c.inputs[2], c.outputs[0])
    let plan = Plan(window.count)
    let frames = re.shape[re.shape.count - 2]
    let count = re.count / (window.count / 2 + 1)
    let first: [Argument] = [.scratch(0)] + [re, im, window].map(\.argument) + [plan.turns]
    let sizes = [op.length, frames, window.count, op.hop].map { Argument.long(Int64($0)) }
    return Work(
      launches: [
        plan.isFast
          ? plan.launch("fourier_back", count, first + [.long(Int64(count))])
          : plan.direct("fourier_back", count, across: window.count, first),
        overlap("overlap_add", .scratch(0), "float", y, sizes),
      ], scratch: count * window.count * 4)
  }
}
