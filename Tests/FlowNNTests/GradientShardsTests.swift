import FlowTensor
import Testing

@testable import FlowNN

@Suite struct GradientShardsTests {
  private struct Ranks: DeviceRanks {
    let rank: Int
    let size: Int
    func broadcast(_ parts: [(slot: Slot, words: Int, owner: Int)]) {}
  }

  /// Every parameter has one owner, whom all ranks name, and nobody has much more than another (Graham 1969: 4/3 of the best).
  @Test(arguments: [1, 2, 3, 5]) func parametersAreSharedOutBySize(_ size: Int) throws {
    let list = ParameterList(Graph())
    let sizes = [10, 700, 300, 300, 80, 650, 300, 20, 512, 512, 90, 400]
    for (index, size) in sizes.enumerated() {
      _ = try list.scope.parameter("p\(index)", [size], .normal(1))
    }
    let shards = (0..<size).map { GradientShards(list.declarations, Ranks(rank: $0, size: size)) }
    var loads = [Int](repeating: 0, count: size)
    for (declaration, count) in zip(list.declarations, sizes) {
      let owner = shards[0].owner(of: declaration.name)
      #expect(shards.allSatisfy { $0.owner(of: declaration.name) == owner })
      #expect(shards.indices.filter { shards[$0].isOwn(declaration.name) } == [owner])
      loads[owner] += count
    }
    let best = max(700, sizes.reduce(0, +) / size)
    #expect((loads.max() ?? 0) * 3 <= best * 4, "\(loads)")
  }
}
