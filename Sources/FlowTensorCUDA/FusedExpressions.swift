import FlowTensor

/// The functions of a fused group's instructions, as a kernel's text has them.
extension FusedSource {
  static func literal(_ value: Float) -> String {
    value.isFinite ? "\(value)f" : "__int_as_float(\(Int32(bitPattern: value.bitPattern)))"
  }

  static func text(_ function: UnaryFunction, _ x: String, _ rough: Bool) -> String {
    let exp = rough ? "__expf" : "expf"
    let over = rough ? { (a: String, b: String) in "__fdividef(\(a), \(b))" } : { "\($0) / (\($1))" }
    return switch function {
    case .negate: "-\(x)"
    case .exp: "\(exp)(\(x))"
    case .log: "logf(\(x))"
    case .sqrt: "\(rough ? "fast_sqrt" : "sqrtf")(\(x))"
    case .reciprocal: over("1.0f", x)
    case .sin: "sinf(\(x))"
    case .cos: "cosf(\(x))"
    case .tanh: "tanhf(\(x))"
    case .sigmoid: over("1.0f", "1.0f + \(exp)(-\(x))")
    case .silu: over(x, "1.0f + \(exp)(-\(x))")
    case .abs: "fabsf(\(x))"
    case .square: "\(x) * \(x)"
    case .sign: "(\(x) > 0 ? 1.0f : \(x) < 0 ? -1.0f : 0.0f)"
    case .relu: "(\(x) < 0 ? 0.0f : \(x))"
    case .step: "(\(x) > 0 ? 1.0f : 0.0f)"
    case .softplus: "(\(x) != \(x) ? \(x) : fmaxf(\(x), 0.0f) + log1pf(expf(-fabsf(\(x)))))"
    case .rsqrt: "rsqrtf(\(x))"
    case .floor: "floorf(\(x))"
    case .round: "rintf(\(x))"
    case .erf: "erff(\(x))"
    }
  }

  static func text(_ function: BinaryFunction, _ a: String, _ b: String, _ rough: Bool) -> String {
    switch function {
    case .add: "\(a) + \(b)"
    case .subtract: "\(a) - \(b)"
    case .multiply: "\(a) * \(b)"
    case .divide: rough ? "__fdividef(\(a), \(b))" : "\(a) / \(b)"
    case .maximum: "(\(a) > \(b) || \(a) != \(a) ? \(a) : \(b))"
    case .minimum: "(\(a) < \(b) || \(a) != \(a) ? \(a) : \(b))"
    case .power: "powf(\(a), \(b))"
    case .greater: "(\(a) > \(b) ? 1.0f : 0.0f)"
    case .greaterOrEqual: "(\(a) >= \(b) ? 1.0f : 0.0f)"
    case .equal: "(\(a) == \(b) ? 1.0f : 0.0f)"
    case .mask: "(\(b) != 0 ? \(a) : 0.0f)"
    }
  }
}
