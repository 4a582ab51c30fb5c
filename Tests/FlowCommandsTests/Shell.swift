import FlowCore
import FlowTestSupport
import Foundation
import Testing

/// The program itself, in a project folder of its own.
struct Shell {
  let folder: TemporaryFolder

  /// - Parameter bare: nothing is in the folder.
  init(pipeline: String = Shell.small, bare: Bool = false) throws {
    folder = try TemporaryFolder()
    if bare { return }
    for name in try FileManager.default.contentsOfDirectory(atPath: repositoryRoot + "/stages") {
      let file = try Data(contentsOf: URL(fileURLWithPath: repositoryRoot + "/stages/" + name))
      try folder.write("stages/" + name, file)
    }
    let songs = repositoryRoot + "/pipelines/demo/songs/"
    for name in ["mary.abc", "row.abc"] {
      try folder.write("pipelines/songs/" + name, try Data(contentsOf: URL(fileURLWithPath: songs + name)))
    }
    try folder.write("pipelines/p.yaml", pipeline)
  }

  /// Scores and singing only: seconds of work.
  static let small = """
    flow: 1
    sources:
      songs: { path: songs, license: CC0-1.0 }
    stages:
      synthesise:
        uses: symbolic-synthesis
        in: { score: songs }
      sing:
        in: { score: synthesise.score }
        with: { vibrato: 30 }
      f0:
        in: { audio: sing.vocals }
    outputs: { f0: f0.f0 }

    """

  /// `stages` after two songs that are sung: what they read is `normalise.audio`.
  static func sung(_ stages: String, outputs: String) -> String {
    """
    flow: 1
    sources:
      songs: { path: songs, license: CC0-1.0 }
    stages:
      synthesise: { uses: symbolic-synthesis, in: { score: songs } }
      sing: { in: { score: synthesise.score } }
      normalise: { in: { audio: sing.vocals } }
    \(stages)
    outputs: \(outputs)

    """
  }

  struct Output {
    var code: Int32
    var out: String
    var error: String
  }

  func callAsFunction(_ arguments: String...) throws -> Output { try run(arguments) }

  func run(_ arguments: [String], in subfolder: String = "", environment: [String: String] = [:]) throws
    -> Output
  {
    let process = try start(arguments, in: subfolder, environment: environment)
    process.waitUntilExit()
    return Output(code: process.terminationStatus, out: out, error: error)
  }

  /// Starts the program; what it says so far is in `out` and `error`.
  func start(_ arguments: [String], in subfolder: String = "", environment: [String: String] = [:]) throws
    -> Process
  {
    let process = Process()
    let executable: URL = try #require(Shell.executable)
    process.executableURL = executable
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path + "/" + subfolder)
    // Files, not pipes: a full pipe would block the program.
    let (out, error) = (folder.path + "/.out", folder.path + "/.error")
    for path in [out, error] { _ = FileManager.default.createFile(atPath: path, contents: nil) }
    process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: out))
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: error))
    try process.run()
    return process
  }

  /// Runs git in the folder, which is expected to end with `code`.
  func git(_ arguments: String..., code: Int32 = 0) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments =
      ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"] + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == code, "git \(arguments)")
  }

  var out: String { folder.text(".out") }
  var error: String { folder.text(".error") }

  /// Waits until something is so; whether it came to be within a minute.
  func wait(_ body: () -> Bool) -> Bool {
    for _ in 0..<600 {
      if body() { return true }
      Thread.sleep(forTimeInterval: 0.1)
    }
    return false
  }

  /// The program that was built with these tests.
  static var executable: URL? {
    let folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    let places = [
      folder, folder.deletingLastPathComponent(), URL(fileURLWithPath: repositoryRoot + "/.build/debug"),
    ]
    return places.map { $0.appendingPathComponent("flow") }.first {
      FileManager.default.isExecutableFile(atPath: $0.path)
    }
  }
}
