extension Program {
  /// What is alive where the memory of intermediate values is fullest, for people: a line for all values that are alike, of
  /// one op in one place of each layer, the largest first.
  public var peak: String {
    guard steps.indices.contains(fullest.step) else { return "" }
    var alike: [String: (count: Int, words: Int)] = [:]
    for (maker, output, words) in fullest.values {
      let (step, value) = (steps[maker], steps[maker].outputs[output])
      let place = step.path.split(separator: ".").map { Int($0) == nil ? String($0) : "*" }.joined(
        separator: ".")
      let name =
        "\(Program.form(value.shape, value.dtype)) of \(step.op.name)\(place.isEmpty ? "" : "  \(place)")"
      let known = alike[name] ?? (0, 0)
      alike[name] = (known.count + 1, known.words + words)
    }
    let total = fullest.values.reduce(0) { $0 + $1.words }
    let (step, sorted) = (
      steps[fullest.step], alike.sorted { ($1.value.words, $0.key) < ($0.value.words, $1.key) }
    )
    var lines = [
      "fullest at step \(fullest.step), \(step.op.name)\(step.path.isEmpty ? "" : "  \(step.path)"):"
        + " \(Program.kibibytes(total)) KiB alive"
    ]
    for (name, value) in sorted.prefix(Program.mostLines) {
      lines.append("  \(Program.kibibytes(value.words)) KiB  \(value.count) x \(name)")
    }
    let rest = sorted.dropFirst(Program.mostLines)
    if !rest.isEmpty {
      lines.append(
        "  \(Program.kibibytes(rest.reduce(0) { $0 + $1.value.words })) KiB  in \(rest.count) more kinds")
    }
    return lines.joined(separator: "\n")
  }

  private static let mostLines = 24
  private static func kibibytes(_ words: Int) -> Int { (words * 4 + 1023) / 1024 }
}
