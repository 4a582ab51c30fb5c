/// Licences as the Hugging Face Hub writes them in a model card's front matter: its own ids for single licences, `other` with a
/// name and a link for all else.
enum HubLicense {
  /// Names of SPDX that the Hub has, by the Hub's; most are the same in lower case.
  private static let known = Set(
    """
    afl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    isc lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl-1.0 odc-by-1.0 ofl-1.1 osl-3.0 pddl-1.0 postgresql unlicense
    wtfpl zlib
    """.split { $0 == " " || $0 == "\n" }.map(String.init))
  private static let renamed = [
    "c-uda-1.0": "c-uda", "odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl",
    "agpl-3.0-only": "agpl-3.0", "agpl-3.0-or-later": "agpl-3.0", "gpl-2.0-only": "gpl-2.0",
    "gpl-2.0-or-later": "gpl-2.0", "gpl-3.0-only": "gpl-3.0", "gpl-3.0-or-later": "gpl-3.0",
    "lgpl-2.1-only": "lgpl-2.1", "lgpl-2.1-or-later": "lgpl-2.1", "lgpl-3.0-only": "lgpl-3.0",
    "lgpl-3.0-or-later": "lgpl-3.0",
  ]

  /// The members of the front matter for an SPDX expression, in order.
  static func members(_ expression: String) -> [(key: String, value: String)] {
    if expression == "NOASSERTION" { return [("license", "unknown")] }
    let id = expression.lowercased()
    if let other = renamed[id] { return [("license", other)] }
    if known.contains(id) { return [("license", id)] }
    return [("license", "other"), ("license_name", expression), ("license_link", "ATTRIBUTION.md")]
  }
}
