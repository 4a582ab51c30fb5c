import FlowEngine
import Foundation
import Synchronization

/// Draws a run: a line per running stage on a terminal, plain lines elsewhere, all on standard error.
final class Progress: Sendable {
  private struct Stage {
    var name: String
    var total: Int
    var done = 0
    var begin = Date()
    var fraction = 0.0
    var note = ""
  }
  private struct State {
    var running: [Stage] = []
    var drawn = 0
    var last = Date.distantPast
    var notes: [String: Date] = [:]
  }
  private let terminal: Terminal
  private let quiet: Bool
  private let state = Mutex(State())
  private let ticker = Mutex<Task<Void, Never>?>(nil)

  init(_ terminal: Terminal, quiet: Bool) {
    self.terminal = terminal
    self.quiet = quiet
    guard terminal.isLive, !quiet else { return }
    // What starts right after a redraw is shown soon, and times go on where a stage is silent.
    ticker.withLock {
      $0 = Task { [weak self] in
        while !Task.isCancelled {
          try? await Task.sleep(for: .milliseconds(250))
          self?.tick()
        }
      }
    }
  }

  private func tick() { state.withLock { if !$0.running.isEmpty { draw(&$0) } } }

  func handle(_ event: RunEvent) {
    if quiet { return }
    state.withLock { state in
      switch event {
      case .started(let stage, let items, let reasons):
        state.running.append(Stage(name: stage, total: items))
        if !terminal.isLive {
          let why = reasons.first.map { " (\($0)\(reasons.count > 1 ? ", …" : ""))" } ?? ""
          Terminal.error("\(stage): \(items) to run\(why)")
        }
      case .progress(let stage, let item, let fraction, let note):
        if let index = state.running.firstIndex(where: { $0.name == stage }) {
          state.running[index].fraction = fraction
          state.running[index].note = note
        }
        let now = Date()
        if !terminal.isLive, item.isEmpty, !note.isEmpty,
          now.timeIntervalSince(state.notes[stage] ?? .distantPast) > 5
        {
          state.notes[stage] = now
          Terminal.error("\(stage): \(Int(fraction * 100)) % \(note)")
        }
      case .item(let stage, let item, let quarantined):
        if let index = state.running.firstIndex(where: { $0.name == stage }) {
          state.running[index].done += 1
          state.running[index].fraction = 0
        }
        if let quarantined {
          line("warning: \(stage): \(item.isEmpty ? "" : item + " ")was set aside: \(quarantined)", &state)
        }
      case .retry(let stage, let item, let reason):
        line("warning: \(stage): \(item.isEmpty ? "" : item + ": ")\(reason); trying again", &state)
      case .warning(let stage, let message): line("warning: \(stage): \(message)", &state)
      case .restoring(let stage, let item):
        let what = item.isEmpty ? "its result" : item
        line("\(stage): \(what) is gone from the cache and is made again", &state)
      case .finished(let report):
        state.running.removeAll { $0.name == report.name }
        guard report.state != .cached || report.items.quarantined > 0 else { break }
        line(Progress.summary(report, terminal), &state)
      }
      draw(&state)
    }
  }

  static func summary(_ report: StageReport, _ terminal: Terminal) -> String {
    let name = Terminal.padded(report.name, 16)
    switch report.state {
    case .failed: return terminal.styled("failed ", "1;31") + " \(name) \(report.failure ?? "")"
    case .denied: return terminal.styled("denied ", "1;31") + " \(name) by its licences"
    case .cached: return "cached  \(name)\(report.items.quarantined) set aside"
    default:
      var text =
        terminal.styled("done   ", "32") + " \(name) \(report.items.run) run, \(report.items.cached) cached"
      if report.items.quarantined > 0 { text += ", \(report.items.quarantined) set aside" }
      text += String(format: "  %.1f s", report.seconds)
      let metrics = report.metrics.sorted { $0.key < $1.key }.prefix(3).map {
        "\($0.key) \(String(format: "%.4g", $0.value))"
      }
      return metrics.isEmpty ? text : text + "  " + metrics.joined(separator: ", ")
    }
  }

  private func line(_ text: String, _ state: inout State) {
    erase(&state)
    Terminal.error(text)
    state.last = .distantPast
  }

  private func erase(_ state: inout State) {
    guard terminal.isLive, state.drawn > 0 else { return }
    Terminal.write("\u{1B}[\(state.drawn)A\u{1B}[J", to: 2)
    state.drawn = 0
  }

  /// At most ten times a second; the cursor is left below what was drawn.
  private func draw(_ state: inout State) {
    guard terminal.isLive, Date().timeIntervalSince(state.last) > 0.1 else { return }
    let (columns, rows) = Terminal.size()
    var lines = state.running.map { Progress.line($0, Date().timeIntervalSince($0.begin)) }
    // More lines than fit would scroll away, and could not be erased.
    if lines.count > max(1, rows - 2) {
      let more = lines.count - max(1, rows - 3)
      lines = lines.prefix(max(1, rows - 3)) + ["… and \(more) more stages"]
    }
    erase(&state)
    state.last = Date()
    state.drawn = lines.count
    Terminal.write(lines.map { Terminal.cut($0, columns - 1) + "\n" }.joined(), to: 2)
  }

  /// Name, items, rate and time left of a running stage.
  private static func line(_ stage: Stage, _ spent: Double) -> String {
    let part = (Double(stage.done) + stage.fraction) / Double(max(1, stage.total))
    var text = "running \(stage.name)  \(stage.done)/\(stage.total) \(stage.total == 1 ? "item" : "items")"
    text += ", \(Int(part * 100)) %"
    if stage.done > 0, spent > 0 {
      let rate = Double(stage.done) / spent
      text += rate >= 1 ? String(format: ", %.1f/s", rate) : String(format: ", %.1f/min", rate * 60)
    }
    if part > 0.02 { text += ", \(Terminal.duration(spent / part * (1 - part))) left" }
    return stage.note.isEmpty ? text : text + "  \(stage.note)"
  }

  func end() {
    ticker.withLock { $0?.cancel() }
    state.withLock { state in
      state.running = []
      erase(&state)
    }
  }
}
