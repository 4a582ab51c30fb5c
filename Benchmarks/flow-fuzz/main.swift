import FlowCore
import FlowPlan
import FlowStageKit
import Foundation

/// `flow-fuzz ROOT COUNT SEED FILE`: mutated pipelines and stage declarations, drawn from those of the repository at ROOT and its
/// examples. Each must give a plan or diagnostics with a code; the text at hand lies in FILE, for when it crashes. Built with
/// `FLOW_FUZZ=1 swift build --sanitize=address --product flow-fuzz`; `scripts/torture-input` does all of it.
///
/// `flow-fuzz ROOT COUNT SEED FILE safetensors`: mutated safetensors instead.
let arguments = Array(CommandLine.arguments.prefix(5))
guard arguments.count == 5, let count = Int(arguments[2]), let seed = UInt64(arguments[3]) else {
  FileHandle.standardError.write(Data("flow-fuzz ROOT COUNT SEED FILE\n".utf8))
  exit(2)
}
let root = arguments[1]
if CommandLine.arguments.last == "safetensors" {
  try fuzzSafetensors(root: root, count: count, seed: seed, path: arguments[4])
  exit(0)
}

func read(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }

func texts(_ folder: String) -> [String] {
  let names = (try? FileManager.default.contentsOfDirectory(atPath: root + "/" + folder)) ?? []
  return names.sorted().filter { $0.hasSuffix(".yaml") && !$0.hasSuffix(".lock.yaml") }.map {
    read("\(root)/\(folder)/\($0)")
  }
}

func examples(_ file: String, only kind: String = "") -> [String] {
  read("\(root)/Tests/Examples/\(file)").components(separatedBy: "\n### ").dropFirst()
    .filter { $0.hasPrefix(kind) }.map { String($0.drop { $0 != "\n" }.dropFirst()) + "\n" }
}

let pieces: [[UInt8]] =
  [
    "{", "}", "[", "]", ": ", "- ", "\"", "'", "&a ", "*a", "!!binary ", "!<x> ", "%TAG ! x:\n", "|\n",
    ">-\n", "~",
    "${", "}", "${params.x}", "${matrix.y}", "\t", "\n", "\n  ", "#", "9999999999999999999", "-1", "1e308",
    ".nan",
    "0x1f", "\u{1}", "\u{0}", "\u{FEFF}", "<<: *a", "? ", "---\n", "...\n", "日本", "\u{301}", "\u{202E}",
    "stages:",
    "uses: ", "matrix: { a: [1, 2, 3] }", "when: ", "a == b", "extends: x.yaml\n", "run: pipeline\n",
    "from: a.b", "in: ",
    "with: ", "[a=1].b", "GiB", "99999999999GiB", "MIT OR (", "WITH", "LicenseRef-", "tokens: { x: 1 }",
    "limits: ",
    "1.5.5s", "default: ", "min: ", "type: choice", "search: [", "{in.a/*}", "{params.", "{out.}",
    "command: ",
  ].map { Array($0.utf8) } + [[0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80]]

/// Draws mutants.
struct Mutator {
  var random: Philox
  mutating func draw(_ most: Int) -> Int { Int(random.next() % UInt64(max(1, most))) }

  mutating func mutated(_ text: String, _ others: [String]) -> [UInt8] {
    var bytes = Array(text.utf8)
    for _ in 0...draw(3) {
      let at = draw(bytes.count + 1)
      let end = min(bytes.count, at + 1 + draw(24))
      switch draw(8) {
      case 0: bytes.removeSubrange(at..<end)
      case 1, 2: bytes.insert(contentsOf: pieces[draw(pieces.count)], at: at)
      case 3: if at < bytes.count { bytes[at] = UInt8(truncatingIfNeeded: draw(256)) }
      case 4: bytes.insert(contentsOf: Array(bytes[at..<end]), at: draw(bytes.count + 1))
      case 5: bytes.removeLast(bytes.count - at)
      case 6:
        let other = Array(others[draw(others.count)].utf8)
        let from = draw(other.count + 1)
        bytes.insert(contentsOf: other[from..<min(other.count, from + draw(200))], at: at)
      default:
        // A line elsewhere, indented otherwise.
        let lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
        let line = Array(repeating: UInt8(32), count: draw(8)) + Array(lines[draw(lines.count)]) + [10]
        bytes.insert(contentsOf: line, at: at)
      }
    }
    return bytes
  }
}

let declarations = texts("stages") + examples("stages.txt")
let pipelines = texts("pipelines") + examples("pipelines.txt")
let good = (
  declarations: texts("stages") + examples("stages.txt", only: "accept"),
  pipelines: texts("pipelines") + examples("pipelines.txt", only: "accept")
)
let named = Dictionary(
  good.declarations.compactMap { text in
    StageCatalog.parse(file: "x.yaml", text: text).0.map { ($0.name, text) }
  },
  uniquingKeysWith: { a, _ in a })
let stages = named.sorted { $0.key < $1.key }.map { ("\($0.key).yaml", $0.value) }
guard let catalog = try? StageCatalog(parsing: stages), declarations.count > 20, pipelines.count > 20 else {
  FileHandle.standardError.write(Data("flow-fuzz: nothing to begin with in \(root)\n".utf8))
  exit(2)
}

var mutator = Mutator(random: Philox(seed: seed, label: "flow-fuzz"))
var (plans, refusals, slowest, codes) = (0, 0, 0.0, Set<String>())
let file = open(arguments[4], O_RDWR | O_CREAT | O_TRUNC, 0o644)
for i in 0..<count {
  let isStage = i % 2 == 1
  let others = isStage ? declarations : pipelines
  // Mostly from what is taken, which gets further.
  let corpus = mutator.draw(3) == 0 ? others : (isStage ? good.declarations : good.pipelines)
  let bytes = mutator.mutated(corpus[mutator.draw(corpus.count)], others)
  ftruncate(file, 0)
  pwrite(file, bytes, bytes.count, 0)
  let text = String(decoding: bytes, as: UTF8.self)
  let begin = ContinuousClock.now
  do {
    if isStage {
      let (declaration, problems) = StageCatalog.parse(file: "mutant.yaml", text: text)
      guard let declaration else { throw Diagnostics(problems) }
      // What lies inside is only looked at beside the others.
      if declaration.run == .pipeline {
        let file = declaration.name + ".yaml"
        _ = try StageCatalog(parsing: stages.filter { $0.0 != file } + [(file, text)])
      }
    } else {
      _ = try Resolver.plan(file: "p.yaml", text: text, catalog: catalog) { _ in pipelines[0] }
    }
    plans += 1
  } catch let error as Diagnostics {
    refusals += 1
    guard !error.all.isEmpty, error.all.allSatisfy({ $0.code.hasPrefix("E0") && !$0.message.isEmpty }) else {
      FileHandle.standardError.write(Data("flow-fuzz: a refusal says nothing: \(error.all)\n".utf8))
      exit(3)
    }
    codes.formUnion(error.all.map(\.code))
  }
  let seconds = Double((ContinuousClock.now - begin).components.attoseconds) / 1e18
  slowest = max(slowest, seconds + Double((ContinuousClock.now - begin).components.seconds))
  guard slowest < 1 else {
    FileHandle.standardError.write(Data("flow-fuzz: one took \(slowest) s\n".utf8))
    exit(4)
  }
}
// A fuzzer that no longer gets past the first check would find nothing.
guard count < 1000 || (plans > count / 100 && codes.count > 15) else {
  FileHandle.standardError.write(
    Data("flow-fuzz: only \(plans) plans and \(codes.count) kinds of refusal\n".utf8))
  exit(5)
}
print(
  "\(count) texts, \(plans) taken, \(refusals) refused with \(codes.count) codes, slowest \(Int(slowest * 1000)) ms, 0 crashes"
)
