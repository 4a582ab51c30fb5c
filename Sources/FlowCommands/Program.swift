import ArgumentParser
import CProcess
import FlowCore
import FlowPlan
import Foundation

/// To be called before there is a second thread. The work is done on one thread of a pool, whose own heap would grow page by
/// page, each by a call to the kernel; a worker's threads keep their own heaps.
public func prepareFlow() { if CommandLine.arguments.dropFirst().first != "exec" { flow_one_heap() } }

/// Runs the command line and ends the process with its exit code.
public func runFlow() async {
  signal(SIGPIPE, SIG_IGN)
  let words = Array(CommandLine.arguments.dropFirst())
  if words.count == 2, words[0] == "help", let text = HelpTopics.text(words[1]) {
    Terminal.out(text)
    exit(0)
  }
  let names = Flow.configuration.subcommands.compactMap {
    $0.configuration.commandName ?? "\($0)".lowercased()
  }
  if let first = words.first, !first.hasPrefix("-"), !names.contains(first), first != "help" {
    let hint = DidYouMean.nearest(first, among: names + ["help"]).map { "did you mean 'flow \($0)'?" }
    fail(Diagnostic(code: "E012", "there is no command '\(first)'", help: hint ?? "'flow --help' lists all"))
  }
  if words.count == 2, words[0] == "help", !names.contains(words[1]) {
    let all = names.filter { $0 != "exec" } + HelpTopics.all.map(\.name)
    fail(
      Diagnostic(
        code: "E012", "there is no help on '\(words[1])'",
        help: DidYouMean.hint(words[1], among: all, what: "topic")))
  }
  do {
    var command = try Flow.parseAsRoot(words)
    if var command = command as? any AsyncParsableCommand {
      try await command.run()
    } else {
      try command.run()
    }
    exit(0)
  } catch let code as ExitCode {
    exit(code.rawValue)
  } catch {
    let code = Flow.exitCode(for: error)
    // Help and the like were asked for; all else is a mistake in the command line, or one that nobody foresaw.
    Terminal.write(Flow.fullMessage(for: error) + "\n", to: code.isSuccess ? 1 : 2)
    exit(code.isSuccess ? 0 : code == .validationFailure ? 2 : 1)
  }
}

private func fail(_ diagnostic: Diagnostic) -> Never {
  Terminal.error(Terminal().render(diagnostic))
  exit(2)
}
