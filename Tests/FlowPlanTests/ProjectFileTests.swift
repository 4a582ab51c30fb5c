import FlowCore
import FlowPlan
import Testing

@Suite struct ProjectFileTests {
  @Test(arguments: [
    ("", "flow: 1\ncache:\n  remote: \"s3:b/x\"\n"),
    ("flow: 1\n", "flow: 1\ncache:\n  remote: \"s3:b/x\"\n"),
    (
      "# ours\nflow: 1\ncache:\n  remote: old # why\n",
      "# ours\nflow: 1\ncache:\n  remote: \"s3:b/x\" # why\n"
    ),
    ("cache:\nflow: 1\n", "cache:\n  remote: \"s3:b/x\"\nflow: 1\n"),
  ])
  func aRemoteIsWrittenAndAllElseStays(_ before: String, _ after: String) throws {
    let text = try ProjectFile.setting(remote: "s3:b/x", in: before, file: "flow.yaml")
    #expect(text == after)
    #expect(try ProjectFile(file: "flow.yaml", text: text).remote == "s3:b/x")
  }

  @Test(arguments: ["cache: { remote: old }\n", "cache: { remote: 'old' }\nflow: 1\n", "flow: 2\n", "a: b\n"])
  func whatCanNotBeChangedIsRefused(_ before: String) {
    #expect(throws: Diagnostics.self) {
      try ProjectFile.setting(remote: "s3:b/x", in: before, file: "flow.yaml")
    }
  }
}
