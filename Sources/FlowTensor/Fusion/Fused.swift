/// A group of ops as one pass over memory.
package struct Fused: Op {
  /// Where a member's input comes from.
  enum Origin: Sendable {
    case input(Int)
    case member(Int, output: Int)
  }

  /// An op of the group, in the order of computation.
  struct Member: Sendable {
    let op: any RowOp
    let inputs: [Origin]
    let shapes: [[Int]]
    /// Which of the group's outputs its outputs are.
    let outputs: [Int?]
  }

  /// What it computes.
  package let program: RowProgram
  let members: [Member]
  let shapes: [[Int]]
  /// The inputs whose memory each output may take.
  let reusable: [[Int]]

  package var name: String { "fused(" + members.map(\.op.name).joined(separator: " ") + ")" }

  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] { shapes }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "a group is made after gradients are")
  }
  package func inPlaceInputs(ofOutput index: Int) -> [Int] { reusable[index] }
  /// Whether output `index` has an element for each of the group's, so that it may be kept in 16 bits.
  package func isFull(_ index: Int) -> Bool {
    program.registers.contains { $0.place == .output(index) && $0.extent == .full }
  }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    members.reduce(0) { sum, member in
      guard let shapes = try? member.op.outputShapes(member.shapes) else { return sum }
      return sum + member.op.flops(member.shapes, shapes)
    }
  }
  package func workspace(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int {
    // A backend splits the rows in at most this many ranges, whose partial sums it keeps.
    program.registers.reduce(0) { sum, register in
      switch register.extent {
      case .columns: sum + RowProgram.mostRanges * program.width
      case .total: sum + RowProgram.mostRanges
      case .full, .small: sum
      }
    }
  }

  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] {
    var values: [[[Double]]] = []
    var results = [[Double]](repeating: [], count: self.shapes.count)
    for member in members {
      let operands = member.inputs.map { origin in
        switch origin {
        case .input(let index): inputs[index]
        case .member(let index, let output): values[index][output]
        }
      }
      let found = member.op.reference(operands, member.shapes)
      for (output, place) in member.outputs.enumerated() { if let place { results[place] = found[output] } }
      values.append(found)
    }
    return results
  }
}
