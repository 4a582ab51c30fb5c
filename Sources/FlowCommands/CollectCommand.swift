import ArgumentParser
import FlowCore
import FlowStore

extension Cache {
  struct Collect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "gc", abstract: "Makes room in the cache; what is freed is made again when it is needed.",
      discussion: """
        Deletes what nothing points to, then, with a budget, the results of least value: seconds to make them again, \
        times how likely they are wanted, per byte. What lock files name (in the working tree, in branches and tags of \
        git), pinned stages gave, or running runs use stays.
        """)
    @Option(help: "What may be left, such as 10GiB or 500MiB.") var budget: ByteCount?
    @Flag(name: .long, help: "Says what would be freed, by stage, and deletes nothing.") var dryRun = false

    func run() async throws {
      try await reporting {
        let root = Project.root(from: nil)
        let store = try Project.store(root)
        let trees = budget == nil ? [] : LockRoots.trees(root)
        let result = store.collect(budget: budget?.bytes, trees: trees, isDry: dryRun)
        if dryRun {
          Terminal.out("stage                          free            keep")
          for stage in Set(result.freed.keys).union(result.kept.keys).sorted() {
            let name = stage.isEmpty ? "(nothing points to it)" : stage
            let (freed, kept) = (result.freed[stage] ?? 0, result.kept[stage] ?? 0)
            let columns = [freed, kept].map { count -> String in
              let text = ByteCount.text(count)
              return String(repeating: " ", count: max(0, 12 - text.count)) + text
            }
            let padding = String(repeating: " ", count: max(0, 24 - name.count))
            Terminal.out(name + padding + columns.joined(separator: "    "))
          }
        }
        Terminal.out("\(ByteCount.text(result.bytes)) \(dryRun ? "would be freed" : "freed")")
        if result.excess > 0 {
          Terminal.error(
            "\(ByteCount.text(result.excess)) over the budget stay: lock files, pins or running runs want them"
          )
        }
      }
    }
  }
}

/// A number of bytes on the command line; MiB without a unit.
struct ByteCount: ExpressibleByArgument {
  let bytes: Int

  private static let units = ["": 20, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40]

  init?(argument: String) {
    let digits = argument.prefix { $0.isASCII && $0.isNumber }
    guard let number = Int(digits), let shift = ByteCount.units[String(argument.dropFirst(digits.count))]
    else {
      return nil
    }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    if overflow { return nil }
    self.bytes = bytes
  }

  static func text(_ bytes: Int) -> String {
    bytes < 10 << 20 ? "\((bytes + 1023) >> 10) KiB" : "\(bytes >> 20) MiB"
  }
}
