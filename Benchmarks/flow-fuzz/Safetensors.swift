import FlowCore
import FlowNN
import Foundation

/// Mutated safetensors, drawn from the golden files: each is read to its last tensor or refused with a reason. The bytes at
/// hand lie in `path`, for when it crashes.
func fuzzSafetensors(root: String, count: Int, seed: UInt64, path: String) throws {
  let folder = root + "/Tests/Golden/safetensors"
  let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
    $0.hasSuffix(".safetensors")
  }
  let corpus = try names.sorted().map {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder + "/" + $0)))
  }
  .filter { $0.count < 8192 }
  guard corpus.count > 40 else { throw FileError("read", folder, ENOENT) }
  let pieces =
    [
      "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u0000", "\\ud800", "\\ud83d\\ude00", "null", "true", "-1",
      "1e9",
      "0", "00", "18446744073709551615", "9223372036854775807", "4611686018427387904", "\"dtype\":\"F32\"",
      "\"shape\":[2,2]", "\"shape\":[]", "\"data_offsets\":[0,16]", "\"__metadata__\":{\"a\":\"b\"}",
      "\"F4\"", "\"BOOL\"",
      "\"F64\"", " ", "\t", "\u{0}", "é",
    ].map { Array($0.utf8) } + [[0xFF], [0xC3], [0xED, 0xA0, 0x80]]
  var random = Philox(seed: seed, label: "flow-fuzz safetensors")
  func draw(_ most: Int) -> Int { Int(random.next() % UInt64(max(1, most))) }
  let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
  defer { close(file) }
  var (read, refused, slowest, reasons) = (0, 0, Duration.zero, Set<String>())
  for _ in 0..<count {
    var bytes = corpus[draw(corpus.count)]
    for _ in 0...draw(3) {
      let at = draw(bytes.count + 1)
      let end = min(bytes.count, at + 1 + draw(16))
      switch draw(6) {
      case 0: bytes.removeSubrange(at..<end)
      case 1, 2: bytes.insert(contentsOf: pieces[draw(pieces.count)], at: at)
      case 3: if at < bytes.count { bytes[at] = UInt8(truncatingIfNeeded: draw(256)) }
      case 4: bytes.insert(contentsOf: Array(bytes[at..<end]), at: draw(bytes.count + 1))
      default: bytes.removeLast(bytes.count - at)
      }
    }
    // Mostly with a length that fits the header, which gets further: it ends at the last brace.
    if draw(4) != 0, bytes.count > 8, let brace = bytes.lastIndex(of: UInt8(ascii: "}")), brace >= 8 {
      withUnsafeBytes(of: UInt64(brace - 7).littleEndian) { bytes.replaceSubrange(0..<8, with: $0) }
    }
    ftruncate(file, 0)
    pwrite(file, bytes, bytes.count, 0)
    let begin = ContinuousClock.now
    do throws(SafetensorsError) {
      let file = try SafetensorsFile(data: Data(bytes))
      for name in file.names { _ = try? file.tensor(name) }
      read += 1
    } catch {
      refused += 1
      reasons.insert(String("\(error)".prefix { !$0.isNumber && $0 != "'" }))
    }
    slowest = max(slowest, ContinuousClock.now - begin)
  }
  let summary =
    "\(count) safetensors, \(read) read, \(refused) refused for \(reasons.count) reasons, slowest \(slowest), 0 crashes"
  guard slowest < .seconds(1), count < 1000 || (read > count / 200 && reasons.count > 12) else {
    FileHandle.standardError.write(Data("flow-fuzz: \(summary)\n".utf8))
    exit(4)
  }
  print(summary)
}
