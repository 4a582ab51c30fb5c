/// Where a WAV file's samples lie, found in its first bytes. Whatever they claim only decides how the samples are packed,
/// never what comes back.
struct PCMLayout: Hashable {
  /// The first byte of the samples, and the first after them as far as the header can be believed.
  var start: Int, end: Int
  /// Channels, and bytes of a sample.
  var channels: Int, width: Int

  /// Reads the chunks of a RIFF or RF64 file up to `data`; `nil` when it isn't one with whole numbers of 16 or 24 bits.
  init?(_ head: UnsafeRawBufferPointer) {
    func number(_ at: Int, _ bytes: Int) -> Int {
      (0..<bytes).reduce(0) { $0 | Int(head[at + $1]) << (8 * $1) }
    }
    func name(_ at: Int) -> String { String(decoding: head[at..<at + 4], as: UTF8.self) }
    guard head.count >= 12, ["RIFF", "RF64"].contains(name(0)), name(8) == "WAVE" else { return nil }
    var position = 12
    var format: (channels: Int, width: Int)?
    while position + 8 <= head.count {
      let size = number(position + 4, 4)
      let body = position + 8
      switch name(position) {
      case "fmt ":
        guard size >= 16, body + min(size, 26) <= head.count else { return nil }
        var tag = number(body, 2)
        // WAVE_FORMAT_EXTENSIBLE: the tag proper begins the sub-format.
        if tag == 0xFFFE, size >= 26 { tag = number(body + 24, 2) }
        let channels = number(body + 2, 2)
        guard tag == 1, channels > 0, channels <= Packer.channels, number(body + 12, 2) % channels == 0 else {
          return nil
        }
        format = (channels, number(body + 12, 2) / channels)
      case "data":
        guard let format, format.width == 2 || format.width == 3 else { return nil }
        start = body
        // RF64 and streams say "unknown": to the end of the file then.
        end = size == 0xFFFF_FFFF || size == 0 ? .max : body + size
        (channels, width) = format
        return
      default: break
      }
      position = body + size + size % 2
    }
    return nil
  }

  /// How many bytes from `position` on are packed as one piece.
  func piece(at position: Int) -> Int {
    if position < start { return min(start - position, Packer.most) }
    if position >= end { return Packer.most }
    let frame = channels * width
    let most = Packer.most / frame * frame
    return min(most, end - position)
  }

  /// Whether a piece at `position` holds samples.
  func holdsSamples(at position: Int) -> Bool { position >= start && position < end }
}
