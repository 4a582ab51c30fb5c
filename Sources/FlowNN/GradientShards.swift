import FlowTensor

/// How a training is shared by ranks whose devices speak with each other (ZeRO stage 1, Rajbhandari et al. 2020): each parameter has
/// an owner, which alone keeps the optimiser's state of it and makes its step. Gradients come to their owners in buckets, in
/// the order in which they are made, while others are still being made; new parameters go from their owners to all.
struct GradientShards {
  /// The most words that a bucket takes on once it has some.
  private static let most = 8 << 20
  private let owners: [String: Int]
  private let ranks: any DeviceRanks
  private let parameters: [ParameterList.Declaration]

  /// Shares out `parameters` by size: the largest first, each to who has least.
  init(_ parameters: [ParameterList.Declaration], _ ranks: any DeviceRanks) {
    self.parameters = parameters
    self.ranks = ranks
    let sizes = parameters.map { $0.tensor.shape.reduce(1, *) }
    var loads = [Int](repeating: 0, count: ranks.size)
    var owners: [String: Int] = [:]
    for index in sizes.indices.sorted(by: { (sizes[$1], $0) < (sizes[$0], $1) }) {
      let owner = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
      owners[parameters[index].name] = owner
      loads[owner] += sizes[index]
    }
    self.owners = owners
  }

  /// Who owns the parameter `name`.
  func owner(of name: String) -> Int { owners[name, default: 0] }
  /// Whether this rank does.
  func isOwn(_ name: String) -> Bool { owner(of: name) == ranks.rank }

  /// Gives all ranks the first one's parameters: those that are drawn may differ in the last digit between machines.
  /// - Throws: `TensorError`.
  func begin(_ store: ParameterStore) throws { try store.share(parameters.map { ($0.name, 0) }) }

  /// Gives all ranks the parameters as their owners have made them.
  /// - Throws: `TensorError`.
  func spread(_ store: ParameterStore) throws {
    try store.share(parameters.map { ($0.name, owner(of: $0.name)) })
  }

  /// The sums of the parameters' gradients over the ranks, in the order of the parameters; those that others own mean nothing here.
  func reduced(_ gradients: [Tensor]) throws(TensorError) -> [Tensor] {
    var result = gradients
    for bucket in buckets(gradients) {
      let sums = try gradients[bucket[0]].graph.reduced(
        bucket.map { gradients[$0] }, owners: bucket.map { owner(of: parameters[$0].name) })
      for (index, sum) in zip(bucket, sums) { result[index] = sum }
    }
    return result
  }

  /// The sum of `squares` over the ranks when all of `gradients` have been added up, so that no rank leaves out a bucket of which it
  /// owns nothing, and none of their memory is taken, and waited for, before.
  func total(_ squares: Tensor, after gradients: [Tensor]) throws(TensorError) -> Tensor {
    try squares.summedOverRanks(after: gradients)
  }

  /// Indices of gradients that travel together. There are some eight at least, so that the first is under way early.
  private func buckets(_ gradients: [Tensor]) -> [[Int]] {
    let sizes = gradients.map { $0.shape.reduce(1, *) }
    let limit = min(GradientShards.most, sizes.reduce(0, +) / 8)
    var result: [[Int]] = []
    var filled = 0
    for index in gradients.indices.sorted(by: { gradients[$0].recorded(before: gradients[$1]) }) {
      if result.isEmpty || filled >= limit {
        result.append([])
        filled = 0
      }
      result[result.count - 1].append(index)
      filled += sizes[index]
    }
    return result
  }
}
