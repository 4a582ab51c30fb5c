import FlowCore

/// `adapter_config.json`, as far as it says what the weights mean.
enum AdapterConfig {
  /// Settings that must be false, and those that must be null or empty, or the weights would mean something else.
  private static let off = ["use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "use_bdlora"]
  private static let empty = [
    "alora_invocation_tokens", "alpha_pattern", "exclude_modules", "layer_replication", "layers_pattern",
    "layers_to_transform", "modules_to_save", "rank_pattern", "target_parameters", "trainable_token_indices",
  ]

  /// Rank, scale and targets, and the base's name. When targets are a pattern, they are the `layers` that have weights.
  static func read(_ json: JSON, layers: Set<String>) throws(AdapterError) -> (LowRank, base: String?) {
    guard case .object(let fields) = json else {
      throw .unreadable("\(Adapter.configFile) holds no JSON object")
    }
    func refuse(_ name: String, _ expected: String) -> AdapterError {
      .setting(name, found: fields[name]?.canonical ?? "missing", expected: expected)
    }
    func number(_ name: String, _ range: ClosedRange<Double>, default value: Double?) throws(AdapterError)
      -> Double
    {
      if fields[name] == nil, let value { return value }
      guard let found = fields[name]?.number, range.contains(found) else {
        throw refuse(name, "a number from \(range.lowerBound) to \(range.upperBound) is expected")
      }
      return found
    }
    guard fields["peft_type"] == .string("LORA") else { throw refuse("peft_type", "only LORA is known") }
    for name in off where ![nil, .null, .bool(false)].contains(fields[name]) {
      throw refuse(name, "flow can only do without it")
    }
    for name in empty where ![nil, .null, .object([:]), .array([])].contains(fields[name]) {
      throw refuse(name, "flow can only do without it")
    }
    guard [nil, .null, .string("none")].contains(fields["bias"]) else {
      throw refuse("bias", "flow adapts no biases")
    }
    guard case .int(let rank)? = fields["r"], (1...65536).contains(rank) else {
      throw refuse("r", "a whole number from 1 to 65536 is expected")
    }
    var targets: [String] = []
    switch fields["target_modules"] {
    case .array(let names):
      for case .string(let name) in names where !name.isEmpty { targets.append(name) }
      guard targets.count == names.count, !targets.isEmpty else {
        throw refuse("target_modules", "a list of names is expected")
      }
    case .string: targets = Array(layers)
    default: throw refuse("target_modules", "a list of names is expected")
    }
    guard [nil, .null, .bool(true), .bool(false)].contains(fields["use_rslora"]) else {
      throw refuse("use_rslora", "true or false is expected")
    }
    let dropout = try number("lora_dropout", 0...1, default: 0)
    guard dropout < 1 else { throw refuse("lora_dropout", "less than all is dropped") }
    let settings = LowRank(
      rank: rank, alpha: try number("lora_alpha", -1e6...1e6, default: 8), targets: targets.sorted(),
      dropout: dropout, isStabilized: fields["use_rslora"] == .bool(true))
    return (settings, fields["base_model_name_or_path"]?.text)
  }

  /// The configuration that `peft` reads.
  static func write(_ settings: LowRank, base: String?) -> JSON {
    let alpha = settings.alpha
    return .object([
      "peft_type": .string("LORA"), "r": .int(settings.rank),
      "lora_alpha": Int(exactly: alpha).map(JSON.int) ?? .double(alpha),
      "lora_dropout": .double(settings.dropout), "use_rslora": .bool(settings.isStabilized),
      "target_modules": .array(settings.targets.sorted().map(JSON.string)), "bias": .string("none"),
      "base_model_name_or_path": base.map(JSON.string) ?? .null, "task_type": .null,
      "fan_in_fan_out": .bool(false), "inference_mode": .bool(true), "init_lora_weights": .bool(true),
      "modules_to_save": .null, "use_dora": .bool(false),
    ])
  }
}
