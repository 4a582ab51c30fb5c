import FlowCore
import FlowTensorCPU
import Foundation
import Testing

@testable import FlowTensor

/// Connectionist temporal classification beside the sum over all alignments, one by one.
@Suite struct CTCTests {
  /// What an alignment says: repeats are one, then blanks are passed over.
  private func labels(_ alignment: [Int]) -> [Int] {
    var (result, last): ([Int], Int) = ([], 0)
    for one in alignment {
      if one != last, one != 0 { result.append(one) }
      last = one
    }
    return result
  }

  /// Every way of choosing a class at each step.
  private func alignments(_ steps: Int, _ classes: Int) -> [[Int]] {
    (0..<steps).reduce([[]]) { all, _ in all.flatMap { one in (0..<classes).map { one + [$0] } } }
  }

  @Test(arguments: [[1, 2], [1, 1], [2, 1, 2], [], [1], [1, 1, 1], [2, 2, 1, 1]])
  func theLossIsThatOfAllAlignments(_ wanted: [Int]) throws {
    let (steps, classes) = (5, 3)
    var random = Philox(seed: UInt64(wanted.count), label: "\(wanted)")
    let x = (0..<steps * classes).map { _ in Float(random.uniform(-2...2)) }
    let graph = Graph()
    let scores = try graph.input("x", [1, steps, classes])
    let padded = wanted.map { Int32($0) } + [Int32](repeating: 0, count: 5 - wanted.count)
    let loss = try scores.ctcLoss(graph.constant(HostTensor(padded, [1, 5])))
    let program = try Program(graph, outputs: ["y": loss], parameters: ParameterStore(CPUBackend()))
    let found = try #require(
      try program.run(["x": HostTensor(x, [1, steps, classes])])["y"]?.floats.first)

    var sum = 0.0
    for alignment in alignments(steps, classes) where labels(alignment) == wanted {
      sum += alignment.indices.reduce(1.0) { product, t in
        let row = x[t * classes..<(t + 1) * classes].map { exp(Double($0)) }
        return product * row[alignment[t]] / row.reduce(0, +)
      }
    }
    // Two of a kind need a blank between: [2, 2, 1, 1] needs six steps.
    if wanted.count == 4 {
      #expect(sum == 0 && found == 0)
    } else {
      #expect(abs(Double(found) + log(sum)) < 1e-5, "\(found), \(-log(sum))")
    }
  }

  @Test func whatDoesNotFitIsRefused() throws {
    let graph = Graph()
    let x = try graph.input("x", [2, 4, 3])
    #expect(throws: TensorError.self) { try x.ctcLoss(graph.input("a", [3, 2], .int32)) }
    #expect(throws: TensorError.self) { try x.ctcLoss(graph.input("b", [2, 2])) }
    let loss = try x.ctcLoss(graph.input("labels", [2, 1], .int32))
    let program = try Program(graph, outputs: ["y": loss], parameters: ParameterStore(CPUBackend()))
    let values = try HostTensor([Float](repeating: 0, count: 24), [2, 4, 3])
    #expect(throws: TensorError.self) {
      try program.run(["x": values, "labels": HostTensor([Int32(1), 3], [2, 1])])
    }
  }
}
