import CZlib
import Foundation

/// Pictures where people look: PNG spectrograms and SVG curves, both deterministic.
public enum Picture {
  /// A PNG of 8-bit RGB pixels, `height` rows of `width`, from the top.
  public static func png(width: Int, height: Int, pixels: [UInt8]) -> [UInt8] {
    precondition(pixels.count == width * height * 3, "\(pixels.count) bytes for \(width) × \(height) pixels")
    var raw: [UInt8] = []
    for row in 0..<height {
      raw.append(0)
      raw += pixels[row * width * 3..<(row + 1) * width * 3]
    }
    var size = compressBound(uLong(raw.count))
    var packed = [UInt8](repeating: 0, count: Int(size))
    compress2(&packed, &size, raw, uLong(raw.count), 6)
    func big(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
    func chunk(_ type: String, _ body: [UInt8]) -> [UInt8] {
      let payload = Array(type.utf8) + body
      return big(body.count) + payload + big(Int(crc32(0, payload, uInt(payload.count))))
    }
    let header = big(width) + big(height) + [8, 2, 0, 0, 0]
    return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + chunk("IHDR", header)
      + chunk("IDAT", Array(packed[..<Int(size)])) + chunk("IEND", [])
  }

  /// Black, violet, red, orange, pale yellow: a dark-to-light map like those of the field.
  static func colour(_ value: Double) -> (UInt8, UInt8, UInt8) {
    let stops: [(Double, Double, Double)] = [
      (0, 0, 4), (60, 15, 110), (150, 40, 110), (225, 80, 55), (250, 160, 30), (252, 255, 190),
    ]
    let position = min(max(value, 0), 1) * Double(stops.count - 1)
    let i = min(Int(position), stops.count - 2)
    let t = position - Double(i)
    let mix = { (a: Double, b: Double) in UInt8(a + (b - a) * t) }
    return (mix(stops[i].0, stops[i + 1].0), mix(stops[i].1, stops[i + 1].1), mix(stops[i].2, stops[i + 1].2))
  }

  /// A log-mel spectrogram of `audio`, 128 bands up to 8 kHz over 80 dB, with a pitch track (Hz, 0 = unvoiced; `step`
  /// seconds apart) drawn on it.
  public static func spectrogram(_ audio: AudioBuffer, pitch: [Double] = [], step: Double = 0) -> [UInt8] {
    let bands = 128
    let hop = max(256, audio.count / 1200)
    let spectrum = STFT(size: 2048, hop: hop).forward(audio.mono)
    let top = min(8000, Double(audio.sampleRate) / 2)
    let filters = Mel.filters(sampleRate: audio.sampleRate, fft: 2048, bands: bands, high: top)
    let levels = Mel.spectrum(spectrum, filters: filters, power: 2).map {
      $0.map { 10 * log10(max($0, 1e-12)) }
    }
    let peak = levels.reduce(-120) { max($0, $1.max() ?? -120) }
    let scale = 2
    let (width, height) = (spectrum.frames, bands * scale)
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    func set(_ x: Int, _ y: Int, _ c: (UInt8, UInt8, UInt8)) {
      guard x >= 0, x < width, y >= 0, y < height else { return }
      (pixels[(y * width + x) * 3], pixels[(y * width + x) * 3 + 1], pixels[(y * width + x) * 3 + 2]) = c
    }
    for x in 0..<width {
      for y in 0..<height { set(x, y, colour((levels[x][(height - 1 - y) / scale] - peak + 80) / 80)) }
      guard step > 0 else { continue }
      let frame = Int((Double(x * hop) / Double(audio.sampleRate) / step).rounded())
      guard frame < pitch.count, pitch[frame] > 0 else { continue }
      let mel = Mel.fromHertz(pitch[frame], .slaney) / Mel.fromHertz(top, .slaney)
      let y = height - 1 - Int(mel * Double(height))
      for dy in -1...1 { set(x, y + dy, (90, 255, 160)) }
    }
    return png(width: width, height: height, pixels: pixels)
  }

  /// Curves over the step number, as an SVG with axes and a legend; the vertical axis is logarithmic when all is positive.
  public static func curves(_ series: [(name: String, points: [(step: Int, value: Double)])], title: String)
    -> String
  {
    let (width, height, left, bottom, top) = (640.0, 320.0, 64.0, 36.0, 30.0)
    let all = series.flatMap(\.points)
    let steps = Double(max(1, all.map(\.step).max() ?? 1))
    let logarithmic = all.allSatisfy { $0.value > 0 }
    let scaled = { (v: Double) in logarithmic ? log10(v) : v }
    let low = all.map { scaled($0.value) }.min() ?? 0
    let high = max((all.map { scaled($0.value) }.max() ?? 1), low + 1e-9)
    func x(_ step: Int) -> String {
      String(format: "%.1f", left + Double(step) / steps * (width - left - 12))
    }
    func y(_ v: Double) -> String {
      String(format: "%.1f", top + (high - scaled(v)) / (high - low) * (height - top - bottom))
    }
    func number(_ t: Double) -> String { String(format: "%.3g", logarithmic ? pow(10, t) : t) }
    let colours = ["#1f6fb4", "#d1495b", "#2e8b57", "#8e5ea2"]
    var svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 320\" font-family=\"sans-serif\" font-size=\"12\">\n"
      + "<rect width=\"640\" height=\"320\" fill=\"white\"/>\n<text x=\"64\" y=\"18\">\(title)</text>\n"
    for i in 0...4 {
      let t = low + (high - low) * Double(i) / 4
      let place = String(format: "%.1f", top + (high - t) / (high - low) * (height - top - bottom))
      svg += "<line x1=\"64\" x2=\"628\" y1=\"\(place)\" y2=\"\(place)\" stroke=\"#ddd\"/>"
      svg += "<text x=\"58\" y=\"\(place)\" text-anchor=\"end\">\(number(t))</text>\n"
    }
    svg += "<text x=\"628\" y=\"312\" text-anchor=\"end\">step \(Int(steps))</text>\n"
    for (index, curve) in series.enumerated() {
      let points = curve.points.map { "\(x($0.step)),\(y($0.value))" }.joined(separator: " ")
      let colour = colours[index % colours.count]
      svg += "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.5\" points=\"\(points)\"/>\n"
      svg += "<text x=\"\(430 + 100 * (index % 2))\" y=\"18\" fill=\"\(colour)\">\(curve.name)</text>\n"
    }
    return svg + "</svg>\n"
  }
}
