public import FlowCore
import Foundation

/// English words to phones by espeak-ng (GPL-3), a program of its own that is asked and not linked.
public struct Espeak: Sendable {
  /// Where it is.
  public let path: String

  /// The program at `path`.
  public init(path: String) { self.path = path }

  /// The phones of the words of `text`, in IPA without stress, a list a word.
  /// - Throws: `Diagnostic` when the program fails.
  public func words(_ text: String) throws(Diagnostic) -> [[String]] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    // As an argument: writing to a program that has ended would end this one. The blank keeps a dash from being an option.
    process.arguments = ["-q", "-b", "1", "-v", "en-us", "--ipa", "--sep=|", " " + text]
    process.environment = ["LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"]
    let output = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    let data: Data
    do {
      try process.run()
      data = try output.fileHandleForReading.readToEnd() ?? Data()
    } catch { throw failure("\(error)") }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw failure("it ended with status \(process.terminationStatus)")
    }
    // Words of other languages stand between "(fr)" and "(en-us)".
    let phones = String(decoding: data, as: UTF8.self).replacing(#/\([a-z-]+\)/#, with: "")
      .filter { !"ˈˌ".contains($0) }
    return phones.split(whereSeparator: \.isWhitespace).map { word in
      word.split(separator: "|").filter { $0 != "_" }.map(String.init)
    }.filter { !$0.isEmpty }
  }

  private func failure(_ why: String) -> Diagnostic {
    Diagnostic(
      code: "E065", "\(path) failed: \(why)", help: "sudo apt-get install --reinstall espeak-ng")
  }

  /// `word` in the phones of a vocabulary as the reference brings it there (spec 9.4): pairs that the vocabulary has as one
  /// become one, some become others; what is still unknown is taken apart where that gives known ones.
  static func fitted(_ word: [String], isKnown: (String) -> Bool) -> [String] {
    var result: [String] = []
    for phone in word {
      let phone = replaced[phone] ?? phone
      if let last = result.last, merged.contains(last + phone) {
        result[result.count - 1] = last + phone
      } else if isKnown(phone) {
        result.append(phone)
      } else {
        result += parts(phone, isKnown) ?? [phone]
      }
    }
    return result
  }

  private static let replaced = ["ɐ": "ɚ", "ᵻ": "ɪ", "əl": "l", "x": "k", "ɬ": "l", "ʔ": "t", "n̩": "n"]
  private static let merged: Set<String> = ["tɹ", "dɹ", "ts", "dz", "ɪɹ", "oːɹ"]

  /// `phone` as known ones, the longest first; by scalars, since marks are scalars of their own.
  private static func parts(_ phone: String, _ isKnown: (String) -> Bool) -> [String]? {
    var rest = Array(phone.unicodeScalars)[...]
    var result: [String] = []
    while !rest.isEmpty {
      func text(_ count: Int) -> String {
        var text = ""
        text.unicodeScalars.append(contentsOf: rest.prefix(count))
        return text
      }
      guard let count = (1...rest.count).last(where: { isKnown(text($0)) }) else { return nil }
      result.append(text(count))
      rest = rest.dropFirst(count)
    }
    return result
  }
}
