import ArgumentParser
import FlowCore
import FlowPlan
import FlowStageKit
import FlowStages

struct ProgramCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "program", abstract: "Shows the tensor programs that a stage runs.", subcommands: [Show.self]
  )

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show",
      abstract: "Writes out a stage's programs: ops, shapes, fused groups, memory, FLOP.")
    @Argument(help: "A stage of the pipeline.") var stage: String
    @OptionGroup var shared: SharedOptions

    func run() async throws {
      try await reporting(json: shared.json, noColor: shared.noColor) {
        let project = try Project(PipelineOptions(word: nil, shared: shared))
        guard let planned = project.plan.stage(stage) else {
          throw Diagnostics([
            Diagnostic(
              code: "E012", "the pipeline has no stage '\(stage)'",
              help: DidYouMean.hint(stage, among: project.plan.stages.map(\.name), what: "stage"))
          ])
        }
        let native = AllStages.list.first { $0.name == planned.declaration.name }
        guard planned.declaration.run == .native, let native else {
          throw Diagnostics([
            Diagnostic(
              code: "E012", "stage '\(stage)' is no stage of flow's own, so it has no tensor program",
              at: planned.location)
          ])
        }
        let listings = try native.programs(parameters: .object(planned.parameters))
        if shared.json {
          let list = listings.map { JSON.object(["name": .string($0.name), "text": .string($0.text)]) }
          Terminal.out(JSON.object(["stage": .string(stage), "programs": .array(list)]).canonical)
        } else if listings.isEmpty {
          Terminal.out("'\(stage)' has no tensor program to show")
        } else {
          for listing in listings { Terminal.out("\(stage): \(listing.name)\n\(listing.text)") }
        }
      }
    }
  }
}
