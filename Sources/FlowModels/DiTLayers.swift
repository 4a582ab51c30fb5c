extension DiT {
  /// Names of a block's linear layers, by the groups that a configuration may name instead.
  public static let layerGroups = [
    "attention": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "feed_forward": ["gate_proj", "up_proj", "down_proj"],
  ]

  /// `names` with groups replaced by their layers, each once.
  public static func layers(_ names: [String]) -> [String] {
    var result: [String] = []
    for name in names.flatMap({ layerGroups[$0] ?? [$0] }) where !result.contains(name) {
      result.append(name)
    }
    return result
  }
}
