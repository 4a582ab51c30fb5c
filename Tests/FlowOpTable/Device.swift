package import FlowTensor

/// A device that the table is run on, and the type that float inputs are kept in.
package struct Device: CustomStringConvertible, Sendable {
  package let description: String
  package let backend: any Backend
  package var storage: DType
  /// What it rounds to, relative to 1.
  package let tolerance: Double

  /// A device with its name and what it rounds to.
  package init(
    _ description: String, _ backend: any Backend, storage: DType = .float32, tolerance: Double
  ) {
    self.description = description
    self.backend = backend
    self.storage = storage
    self.tolerance = tolerance
  }
}

/// How far one output or gradient is from the reference.
package struct Deviation: Sendable {
  /// The view of the inputs, and which output or gradient, counted through.
  package let view: InputView
  package let index: Int
  /// The largest difference, relative to the largest element or 1; infinite where the counts differ or one isn't a
  /// number and the other is.
  package let worst: Double
  /// ‖found − wanted‖ / ‖wanted‖, 0 where nothing is wanted but zeros and found.
  package let relative: Double

  init(_ view: InputView, _ index: Int, _ found: [Float], _ wanted: [Double]) {
    (self.view, self.index) = (view, index)
    // Gradients are sums over many elements.
    let scale = wanted.reduce(1) { $1.isFinite ? max($0, abs($1)) : $0 }
    var (largest, error, size) = (found.count == wanted.count ? 0.0 : .infinity, 0.0, 0.0)
    for (f, w) in zip(found, wanted) where Double(f) != w && !(f.isNaN && w.isNaN) {
      let difference = abs(Double(f) - w)
      largest = max(largest, difference.isFinite ? difference : .infinity)
      error += difference * difference
    }
    for w in wanted { size += w * w }
    worst = largest / scale
    relative = error == 0 ? 0 : (error / max(size, .leastNormalMagnitude)).squareRoot()
  }
}

extension OpCase {
  /// How far outputs and gradients are from the references in double precision, for fresh inputs of each view.
  package func deviations(
    on device: Device, seed: UInt64, views: [InputView] = InputView.allCases
  ) throws -> [Deviation] {
    let values = values(seed, device.storage)
    let wanted = try reference(values)
    return try views.flatMap { view in
      let found = try run(values, on: device.backend, view, device.storage)
      return zip(found, wanted).enumerated().map { Deviation(view, $0, $1.0, $1.1) }
    }
  }
}

/// A backend whose new memory holds no numbers, so that an element that no kernel wrote is seen.
package struct Poisoned<Device: Backend>: Backend {
  private let device: Device
  /// The name of the device itself.
  package var name: String { device.name }

  /// Over `device`.
  package init(_ device: Device) { self.device = device }

  /// Memory filled with bits that are no number.
  package func makeBuffer(_ count: Int) throws -> any DeviceBuffer {
    let buffer = try device.makeBuffer(count)
    let piece = [UInt32](repeating: 0x7fff_ffff, count: min(count, 1 << 20))
    for start in stride(from: 0, to: count, by: max(1, piece.count)) {
      let words = min(piece.count, count - start)
      try piece.withUnsafeBytes {
        try buffer.write(UnsafeRawBufferPointer(rebasing: $0[..<(words * 4)]), at: start)
      }
    }
    return buffer
  }

  /// As the device does.
  package func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { device.borrow(memory) }

  /// As the device does.
  package func workspace(_ op: any Op, _ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    device.workspace(op, inputs, outputs)
  }

  /// As the device does, however small a value is.
  package var narrowing: Narrowing? {
    var narrowing = device.narrowing
    narrowing?.smallest = 1
    return narrowing
  }

  /// As the device does.
  package func fusesAlone(_ op: any Op) -> Bool { device.fusesAlone(op) }
  package var turnsAttention: Bool { device.turnsAttention }
  package var recomputesCheaply: Bool { device.recomputesCheaply }

  /// As the device does.
  package var addsInProducts: Bool { device.addsInProducts }

  /// As the device does.
  package var widestRow: Int { device.widestRow }

  /// As the device does.
  package var ranks: (any DeviceRanks)? { device.ranks }

  /// As the device does.
  package func prepare(_ steps: [Step]) throws -> any PreparedSteps { try device.prepare(steps) }
}
