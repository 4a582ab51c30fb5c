// Functions made of others: recorded as elementwise chains, which run as one pass where the program fuses them.

extension Tensor {
  /// x Φ(x), Φ the distribution function of the standard normal (Hendrycks & Gimpel 2016); `approximate` takes their
  /// approximation by tanh, written with the sigmoid: (1 + tanh u) / 2 = sigmoid(2u).
  public func gelu(approximate: Bool = false) throws(TensorError) -> Tensor {
    if approximate { return try self * (self * (square() * 0.0713548163 + 1.59576912)).sigmoid() }
    return try self * ((self * 0.707106781).erf() * 0.5 + 0.5)
  }

  /// ln(1 + e^x)
  public func softplus() throws(TensorError) -> Tensor { try graph.apply(Unary(.softplus), [self])[0] }

  /// The error function.
  public func erf() throws(TensorError) -> Tensor { try graph.apply(Unary(.erf), [self])[0] }

  /// x if positive, else x times `slope`.
  public func leakyRelu(_ slope: Float) throws(TensorError) -> Tensor {
    try relu() + minimum(graph.constant(0)) * slope
  }

  /// x if positive, else alpha (e^x - 1) (Clevert et al. 2016).
  public func elu(_ alpha: Float = 1) throws(TensorError) -> Tensor {
    try relu() + (minimum(graph.constant(0)).exp() - 1) * alpha
  }

  /// x to the power of `exponent`, broadcast; NaN for a negative x with an exponent that isn't whole.
  public func power(_ exponent: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(.power), [self, exponent])[0]
  }

  /// x to the power of `exponent`.
  public func power(_ exponent: Float) throws(TensorError) -> Tensor {
    switch exponent {
    case 1: self
    case 2: try square()
    case 0.5: try sqrt()
    case -0.5: try rsqrt()
    case -1: try reciprocal()
    default: try power(graph.constant(exponent))
    }
  }

  /// The logarithm to base 10.
  public func log10() throws(TensorError) -> Tensor { try log() * 0.434294482 }

  /// 1 / sqrt(x)
  public func rsqrt() throws(TensorError) -> Tensor { try graph.apply(Unary(.rsqrt), [self])[0] }

  /// The largest whole number not above x; its gradient is 0.
  public func floor() throws(TensorError) -> Tensor { try graph.apply(Unary(.floor), [self])[0] }

  /// The nearest whole number, of two the even one; its gradient is 0.
  public func round() throws(TensorError) -> Tensor { try graph.apply(Unary(.round), [self])[0] }
}

// Comparisons give masks: 1 where they hold, else 0; none holds for NaN.
extension Tensor {
  /// Whether this is above `other`, broadcast.
  public func greater(_ other: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(.greater), [self, other])[0]
  }
  /// Whether this is at least `other`, broadcast.
  public func greaterOrEqual(_ other: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(.greaterOrEqual), [self, other])[0]
  }
  /// Whether this is below `other`, broadcast.
  public func less(_ other: Tensor) throws(TensorError) -> Tensor { try other.greater(self) }
  /// Whether this is at most `other`, broadcast.
  public func lessOrEqual(_ other: Tensor) throws(TensorError) -> Tensor { try other.greaterOrEqual(self) }
  /// Whether this is `other`, broadcast.
  public func equal(_ other: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(.equal), [self, other])[0]
  }

  /// This where `mask` isn't 0, elsewhere 0 (even where this is infinite or NaN); shapes broadcast.
  public func masked(by mask: Tensor) throws(TensorError) -> Tensor {
    try graph.apply(Binary(.mask), [self, mask])[0]
  }

  /// Where this mask (0 or 1) is 1 `a`, elsewhere `b`; shapes broadcast. What isn't taken can be anything, and no
  /// gradient reaches it.
  public func select(_ a: Tensor, _ b: Tensor) throws(TensorError) -> Tensor {
    try a.masked(by: self) + b.masked(by: 1 - self)
  }
}
