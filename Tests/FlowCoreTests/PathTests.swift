import FlowCore
import Testing

@Suite struct PathTests {
  @Test(
    arguments: [
      ("a/b", "a"), ("a", ""), ("", ""), ("/a", "/"), ("/", "/"), ("a/", ""), ("a/b/", "a"), ("a//b", "a"),
      ("/a/b", "/a"), ("//", "/"), ("é/ü", "é"), ("a/\u{301}b", "a"),
    ])
  func theFolderOf(path: String, parent: String) { #expect(Path.parent(path) == parent) }
}
