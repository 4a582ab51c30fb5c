import Testing

@testable import FlowEngine

@Suite struct LockMergeTests {
  static let head = "# note\nlock: 1\nhash: sha256\npipeline: p\nstages:\n"

  static func lock(_ stages: [String: String]) -> String {
    head + stages.sorted { $0.key < $1.key }.map { "  \($0.key):\n    stage: \($0.value)\n" }.joined()
  }

  @Test(arguments: [
    // Disjoint stages.
    (["a": "1", "b": "1"], ["a": "2", "b": "1"], ["a": "1", "b": "2"], ["a": "2", "b": "2"], [String]()),
    // The same stage to the same value, and to different ones.
    (["a": "1"], ["a": "2"], ["a": "2"], ["a": "2"], []),
    (["a": "1", "b": "1"], ["a": "2", "b": "1"], ["a": "3", "b": "1"], ["a": "?", "b": "1"], ["a"]),
    // Added on one side, on both alike, on both differently.
    (["a": "1"], ["a": "1", "b": "1"], ["a": "1", "c": "1"], ["a": "1", "b": "1", "c": "1"], []),
    (["a": "1"], ["a": "1", "b": "1"], ["a": "1", "b": "1"], ["a": "1", "b": "1"], []),
    (["a": "1"], ["a": "1", "b": "1"], ["a": "1", "b": "2"], ["a": "1", "b": "?"], ["b"]),
    // Deleted here, there, and while the other side changed it.
    (["a": "1", "b": "1"], ["a": "1"], ["a": "1", "b": "1"], ["a": "1"], []),
    (["a": "1", "b": "1"], ["a": "1", "b": "1"], ["b": "2"], ["b": "2"], []),
    (["a": "1", "b": "1"], ["a": "1"], ["a": "1", "b": "2"], ["a": "1", "b": "?"], ["b"]),
    (["a": "1"], [:], [:], [:], []),
  ])
  func blocksAreMergedByStage(
    _ base: [String: String], _ ours: [String: String], _ theirs: [String: String],
    _ wanted: [String: String],
    _ open: [String]
  ) {
    let result = LockMerge.merge(
      base: LockMergeTests.lock(base), ours: LockMergeTests.lock(ours), theirs: LockMergeTests.lock(theirs))
    let text = LockMergeTests.lock(wanted).replacing("    stage: ?\n", with: LockMerge.unresolved)
    #expect(result.text == text)
    #expect(result.unresolved == open)
    // Sides are equal.
    let other = LockMerge.merge(
      base: LockMergeTests.lock(base), ours: LockMergeTests.lock(theirs), theirs: LockMergeTests.lock(ours))
    #expect(other.text == text)
  }

  @Test func aLockFileThatOneSideLacksIsTheOthers() {
    let lock = LockMergeTests.lock(["a": "1"])
    #expect(LockMerge.merge(base: "", ours: "", theirs: lock).text == lock)
    #expect(LockMerge.merge(base: "", ours: lock, theirs: "").text == lock)
  }
}
