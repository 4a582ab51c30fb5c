import FlowTensor

/// How a fused group's kernel reads its inputs and writes its outputs: a thread's neighbouring elements in one access
/// where they lie together.
extension FusedSource {
  /// The offset, in elements, of dense index `at`.
  func offset(_ access: RowProgram.Access, _ at: String) -> String {
    guard case .strided(let pattern) = access else { return at }
    return pattern.shape.count == 1 && pattern.strides[0] == 1
      ? "\(at) + \(pattern.offset)" : terms(pattern, at)
  }

  private func terms(_ pattern: Pattern, _ at: String) -> String {
    let unsigned = isWide ? "u64" : "u32"
    var terms = ["(Index)\(pattern.offset)"]
    var below = 1
    for axis in pattern.shape.indices.reversed() {
      let quotient = below == 1 ? "(\(unsigned))(\(at))" : "(\(unsigned))(\(at)) / \(below)u"
      let digit = axis == 0 ? quotient : "(\(quotient)) % \(pattern.shape[axis])u"
      if pattern.strides[axis] != 0 { terms.append("(Index)(\(digit)) * (\(pattern.strides[axis]))") }
      below *= pattern.shape[axis]
    }
    return "(" + terms.joined(separator: " + ") + ")"
  }

  func loadVector(
    _ pointer: String, _ access: RowProgram.Access, _ at: String, _ names: [String]
  ) -> String {
    switch access {
    case .dense: return loadDense("\(pointer) + (\(at))", names)
    case .strided(let pattern):
      let (inner, step) = (pattern.shape[pattern.shape.count - 1], pattern.strides[pattern.strides.count - 1])
      if inner % vector == 0, step == 0 {
        return "const float v = load(\(pointer) + \(offset(access, at))); "
          + names.map { "\($0) = v;" }.joined(separator: " ")
      }
      if isWhole(pattern) {
        return loadDense("\(pointer) + \(offset(access, at))", names)
      }
      return "const Index i = \(at); "
        + names.enumerated().map { "\($1) = load(\(pointer) + \(offset(access, "(i + \($0))")));" }
        .joined(separator: " ")
    }
  }

  /// Whether a thread's chunk lies together, where it can be read at once.
  func isWhole(_ pattern: Pattern) -> Bool {
    pattern.strides.last == 1 && (pattern.shape.last ?? 1) % vector == 0 && pattern.offset % vector == 0
      && pattern.strides.dropLast().allSatisfy { $0 % vector == 0 }
  }

  private func loadDense(_ address: String, _ names: [String]) -> String {
    if names.count == 1 { return "\(names[0]) = load(\(address));" }
    if names.count == 8 {
      return "float v[8]; load8(v, \(address)); "
        + names.enumerated().map { "\($1) = v[\($0)];" }.joined(separator: " ")
    }
    return "float v[4]; load4(v, \(address)); "
      + names.enumerated().map { "\($1) = v[\($0)];" }.joined(separator: " ")
  }

  func storeVector(_ pointer: String, _ at: String, _ names: [String]) -> String {
    if names.count == 1 { return "store(\(pointer) + (\(at)), \(names[0]));" }
    if names.count == 8 {
      return "const float v[8] = {\(names.joined(separator: ", "))}; store8(\(pointer) + (\(at)), v);"
    }
    return "const float v[4] = {\(names.joined(separator: ", "))}; store4(\(pointer) + (\(at)), v);"
  }
}
