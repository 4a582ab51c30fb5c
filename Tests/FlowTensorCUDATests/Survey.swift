import FlowOpTable
import FlowTensor
import Synchronization

@testable import FlowTensorCUDA

/// A backend that runs nothing, and notes the kernels that programs would launch.
final class Survey: Backend {
  let name = "survey"
  let capability: Int
  let precision: CUDAPrecision
  /// Bytes that a step must move for other forms of its kernel to be noted as well.
  let leastTried: Int
  private let found = Mutex<Set<Kernel>>([])
  private let candidates = Mutex<[(work: Work, trial: StepTrial)]>([])
  private let next = Mutex<UInt64>(1 << 32)

  /// All that were noted.
  var kernels: Set<Kernel> { found.withLock { $0 } }

  /// Steps that can be done in several ways.
  var tried: [(work: Work, trial: StepTrial)] { candidates.withLock { $0 } }

  init(capability: Int, precision: CUDAPrecision, leastTried: Int = 8 << 20) {
    self.capability = capability
    self.precision = precision
    self.leastTried = leastTried
  }

  final class Blank: DeviceBuffer {
    let (count, address): (Int, UInt64)
    init(_ count: Int, _ address: UInt64) { (self.count, self.address) = (count, address) }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {}
    func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {}
  }
  final class Nothing: PreparedSteps {
    func run() {}
    func time(steps order: [Int], runs: Int) -> [Double] { [] }
  }

  func makeBuffer(_ count: Int) -> any DeviceBuffer {
    Blank(
      count,
      next.withLock { next in
        defer { next += UInt64(count * 4 + 511) / 256 * 256 }; return next
      })
  }
  func workspace(_ op: any Op, _ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
  func fusesAlone(_ op: any Op) -> Bool { !(op is StridedCopy || op is Sum) }
  var narrowing: Narrowing? {
    guard precision == .bfloat16 else { return nil }
    var narrowing = Narrowing(
      type: .bfloat16, reads: { KernelTable.reads($0, $1) }, writes: { KernelTable.writes($0, $1) },
      wants: { KernelTable.wants($0, $1) })
    narrowing.smallest = 1
    return narrowing
  }

  func prepare(_ steps: [Step]) throws -> any PreparedSteps {
    for step in steps {
      func operand(_ value: (slot: Slot, shape: [Int], dtype: DType)) -> Operand {
        let address = (value.slot.buffer as? Blank)?.address ?? 0
        return Operand(
          address: address + UInt64(value.slot.offset * 4), shape: value.shape, dtype: value.dtype)
      }
      let context = StepContext(
        inputs: step.inputs.map(operand), outputs: step.outputs.map(operand), multiprocessors: 132,
        capability: capability, leastTried: leastTried)
      if context.outputs.allSatisfy({ $0.count == 0 }) { continue }
      let adding = step.op as? MatMulAdd
      let product = (step.op as? MatMul ?? adding?.product).flatMap {
        KernelTable.skinny($0, context, scale: adding?.scale ?? 1)
      }
      if let work = product ?? KernelTable.work(step.op, context) {
        found.withLock { $0.formUnion(work.launches.map(\.kernel)) }
        let op = step.op
        let trial = StepTrial(context: context) { KernelTable.work(op, $0) }
        if !work.alternatives.isEmpty { candidates.withLock { $0.append((work, trial)) } }
      } else if !(step.op is MatMul || step.op is MatMulAdd) {
        throw TensorError.unsupported(op: step.op.name, backend: name, path: step.path)
      }
    }
    return Nothing()
  }

  /// The kernels of the op table's programs on a device of `capability`: every kernel of a file, of those that are
  /// made for a program the ones that must be on a multiprocessor together, all forms of those of a published size, and
  /// every eighth of the others.
  static func kernels(capability: Int) throws -> [Kernel] {
    // Those that no op launches.
    var all: Set<Kernel> = [Kernel("trial", "fill", ["T0=float"]), Kernel("trial", "fill", ["T0=bf16"])]
    var forms: Set<Kernel> = []
    for (precision, storage) in [
      (CUDAPrecision.float32, DType.float32), (.float32, .bfloat16), (.bfloat16, .float32),
    ] {
      let survey = Survey(capability: capability, precision: precision)
      for test in OpCase.all { _ = try test.program(on: survey, test.view, storage) }
      for shape in FusedAheadTests.shapes { _ = try FusedAheadTests.program(shape, storage, on: survey) }
      if precision == .bfloat16 {
        for test in TensorCores.cases { _ = try TensorCores.program(test, on: survey) }
        // Of a published size as well.
        for shape in FusedAheadTests.shapes + [[4, 2300, 2048], [16, 9200, 128]] {
          _ = try FusedAheadTests.program(shape, .float32, on: survey)
        }
      }
      // All of a type, as a program has them.
      if precision == .bfloat16 || storage == .float32 {
        let type: DType = precision == .bfloat16 ? .bfloat16 : .float32
        for group in RowGroups.allCases { _ = try group.program(group.published, type, on: survey) }
      }
      for (work, _) in survey.tried {
        forms.formUnion(([work] + work.alternatives).flatMap { $0.launches.map(\.kernel) })
      }
      all.formUnion(survey.kernels)
    }
    let sorted = all.union(forms).sorted {
      "\($0.source)\($0.entry)\($0.defines)" < "\($1.source)\($1.entry)\($1.defines)"
    }
    var units: Set<Kernel> = []
    return sorted.enumerated().compactMap { index, kernel in
      // One compilation gives all entries of a source.
      var unit = kernel
      unit.entry = ""
      guard units.insert(unit).inserted else { return nil }
      if case .text(let text) = kernel.source, index % 8 != 0, !text.contains("first_row"),
        !forms.contains(kernel)
      {
        return nil
      }
      return kernel
    }
  }
}

extension Kernel {
  /// The file of the package that it is in, if it is in one.
  var file: String {
    if case .file(let name) = source { name } else { "" }
  }
}
