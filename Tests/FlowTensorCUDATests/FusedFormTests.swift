import FlowOpTable
import Foundation
import Testing

@testable import FlowTensor
@testable import FlowTensorCUDA

/// The forms of fused kernels over rows: each gives the bits of the one that is taken without a trial.
@Suite(.enabled(if: Shim.isThere, "\(Shim.reason)")) struct FusedFormTests {
  /// The steps of a group's programs that have several forms.
  private static func steps(
    _ group: RowGroups, _ shapes: [[Int]], _ type: DType
  ) throws -> [(work: Work, trial: StepTrial)] {
    let precision: CUDAPrecision = type == .bfloat16 ? .bfloat16 : .float32
    let survey = Survey(capability: 80, precision: precision, leastTried: 0)
    for shape in shapes { _ = try group.program(shape, type, on: survey) }
    return survey.tried
  }

  /// Which ways of a step give the bits of the first.
  private static func alike(_ step: (work: Work, trial: StepTrial), _ backend: CUDABackend) throws -> [Int] {
    let kernels = ([step.work] + step.work.alternatives).flatMap { $0.launches.map(\.kernel) }
    let types = step.trial.context.inputs.map(\.cType)
    try backend.compiler.prepare(Set(kernels).union(Trial.kernels(types)))
    return try #require(try step.trial.alike(backend.device, backend.compiler))
  }

  /// The same of each step of a group's program, on a device of its own.
  static func alike(_ group: RowGroups, _ shape: [Int], _ type: DType) throws -> [[Int]] {
    let backend = try CUDABackend(precision: .float32)
    return try steps(group, [shape], type).map { try alike($0, backend) }
  }

  @Test(arguments: RowGroups.allCases, [DType.float32, .bfloat16])
  func allGiveTheSameBits(_ group: RowGroups, _ type: DType) throws {
    let backend = try CUDABackend(precision: .float32)
    let steps = try Self.steps(group, group.shapes, type)
    // That one's rows fill the registers.
    #expect(!steps.isEmpty || (group == .pairBack && type == .float32))
    for step in steps {
      let ways = [step.work] + step.work.alternatives
      #expect(try Self.alike(step, backend) == Array(ways.indices), "\(group) \(ways.map(\.form))")
      // None is another's text.
      #expect(Set(ways.compactMap(\.launches.first?.kernel)).count == ways.count)
    }
  }

  /// That the forms which the sizes are for are among them.
  @Test(arguments: RowGroups.allCases) func severalAreOffered(_ group: RowGroups) throws {
    let forms = Set(
      try Self.steps(group, group.shapes, .bfloat16).flatMap { $0.work.alternatives.map(\.form) })
    let hasSums = [RowGroups.normBack, .turnedBack, .pairBack].contains(group)
    #expect(forms.contains { $0.contains("keeping") })
    #expect(forms.contains { $0.hasPrefix("2 at once") } || hasSums, "\(forms)")
    // Those have no registers left.
    let isFull = [RowGroups.turnedBack, .pairBack].contains(group)
    #expect(forms.contains { $0.contains("2 ahead") } || isFull, "\(forms)")
  }
}
