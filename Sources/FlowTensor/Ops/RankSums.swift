/// Adds up each of several tensors over the ranks whose devices speak with each other (`Backend.ranks`); the sum comes to one
/// rank, its owner, and what the others get means nothing. A bucket of gradients: the device begins when the last of
/// them is there.
package struct RankReduce: Op, Hashable {
  /// Who gets the sum of each.
  package let owners: [Int]

  /// Sums for `owners`.
  package init(owners: [Int]) { self.owners = owners }

  package var name: String { "rank_reduce" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: owners.count)
    return inputs
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { index }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "sums over ranks are of gradients")
  }
  /// Of a rank that is alone.
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { inputs }
}

/// The sum of a tensor over the ranks, the same bits on all. The inputs that follow it must be there before, and are not read.
package struct RankSum: Op, Hashable {
  /// How many inputs follow the tensor.
  package let followers: Int

  /// A sum that comes after `followers` other values.
  package init(followers: Int) { self.followers = followers }

  package var name: String { "rank_sum" }
  package func outputShapes(_ inputs: [[Int]]) throws(TensorError) -> [[Int]] {
    try require(inputs, count: 1 + followers)
    return [inputs[0]]
  }
  package func inPlaceInput(ofOutput index: Int) -> Int? { 0 }
  package func flops(_ inputs: [[Int]], _ outputs: [[Int]]) -> Int { 0 }
  package func gradients(_ context: GradientContext) throws(TensorError) -> [Tensor?] {
    throw .derivative(op: name, problem: "sums over ranks are of gradients")
  }
  /// Of a rank that is alone.
  package func reference(_ inputs: [[Double]], _ shapes: [[Int]]) -> [[Double]] { [inputs[0]] }
}

extension Graph {
  /// The sums of `tensors` over the ranks, each for its owner.
  package func reduced(_ tensors: [Tensor], owners: [Int]) throws(TensorError) -> [Tensor] {
    try apply(RankReduce(owners: owners), tensors)
  }
}

extension Tensor {
  /// The sum over the ranks, when `others` are there.
  package func summedOverRanks(after others: [Tensor] = []) throws(TensorError) -> Tensor {
    try graph.apply(RankSum(followers: others.count), [self] + others)[0]
  }
}
