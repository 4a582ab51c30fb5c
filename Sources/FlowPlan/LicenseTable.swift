/// Names of the SPDX licence list: data, text, music, software. Those it lacks can be written `LicenseRef-NAME`.
enum LicenseTable {
  /// Licences by their name in lower case.
  static let licenses = names(
    """
    0BSD AFL-3.0 AGPL-1.0-only AGPL-1.0-or-later AGPL-3.0-only AGPL-3.0-or-later AML Apache-1.1
    Apache-2.0 APSL-2.0 Artistic-1.0 Artistic-2.0 Beerware BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause
    BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 BUSL-1.1 bzip2-1.0.6 C-UDA-1.0 CAL-1.0
    CC-BY-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-2.5-AU CC-BY-3.0 CC-BY-3.0-AT CC-BY-3.0-AU CC-BY-3.0-DE
    CC-BY-3.0-IGO CC-BY-3.0-NL CC-BY-3.0-US CC-BY-4.0 CC-BY-NC-1.0 CC-BY-NC-2.0 CC-BY-NC-2.5
    CC-BY-NC-3.0 CC-BY-NC-3.0-DE CC-BY-NC-4.0 CC-BY-NC-ND-1.0 CC-BY-NC-ND-2.0 CC-BY-NC-ND-2.5
    CC-BY-NC-ND-3.0 CC-BY-NC-ND-3.0-DE CC-BY-NC-ND-3.0-IGO CC-BY-NC-ND-4.0 CC-BY-NC-SA-1.0
    CC-BY-NC-SA-2.0 CC-BY-NC-SA-2.0-DE CC-BY-NC-SA-2.0-FR CC-BY-NC-SA-2.0-UK CC-BY-NC-SA-2.5
    CC-BY-NC-SA-3.0 CC-BY-NC-SA-3.0-DE CC-BY-NC-SA-3.0-IGO CC-BY-NC-SA-4.0 CC-BY-ND-1.0 CC-BY-ND-2.0
    CC-BY-ND-2.5 CC-BY-ND-3.0 CC-BY-ND-3.0-DE CC-BY-ND-4.0 CC-BY-SA-1.0 CC-BY-SA-2.0 CC-BY-SA-2.0-UK
    CC-BY-SA-2.1-JP CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-3.0-AT CC-BY-SA-3.0-DE CC-BY-SA-3.0-IGO
    CC-BY-SA-4.0 CC-PDDC CC-PDM-1.0 CC-SA-1.0 CC0-1.0 CDDL-1.0 CDDL-1.1 CDLA-Permissive-1.0
    CDLA-Permissive-2.0 CDLA-Sharing-1.0 CERN-OHL-P-2.0 CERN-OHL-S-2.0 CERN-OHL-W-2.0
    Community-Spec-1.0 CPAL-1.0 CPL-1.0 Cube curl DL-DE-BY-2.0 DL-DE-ZERO-2.0 DOC ECL-2.0 EFL-2.0
    Elastic-2.0 Entessa EPL-1.0 EPL-2.0 etalab-2.0 EUDatagrid EUPL-1.0 EUPL-1.1 EUPL-1.2 Fair
    FDK-AAC Frameworx-1.0 FSFAP FTL GD GFDL-1.1-only GFDL-1.1-or-later GFDL-1.2-only
    GFDL-1.2-or-later GFDL-1.3-only GFDL-1.3-or-later GL2PS Glide GPL-1.0-only GPL-1.0-or-later
    GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later Hippocratic-2.1 HPND HTMLTIDY ICU
    IJG Info-ZIP Intel ISC JasPer-2.0 JSON LAL-1.2 LAL-1.3 LGPL-2.0-only LGPL-2.0-or-later
    LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later Libpng libpng-1.6.35 libpng-2.0
    LiLiQ-P-1.1 LiLiQ-R-1.1 LiLiQ-Rplus-1.1 Linux-man-pages-1-para Linux-man-pages-copyleft
    Linux-man-pages-copyleft-2-para Linux-man-pages-copyleft-var LPL-1.02 LPPL-1.3c MIT MIT-0
    MIT-CMU Motosoto MPL-1.0 MPL-1.1 MPL-2.0 MS-PL MS-RL MTLL MulanPSL-1.0 MulanPSL-2.0 Multics
    NASA-1.3 Naumen NCSA NIST-PD NIST-PD-fallback NLOD-1.0 NLOD-2.0 Nokia NPOSL-3.0 NTP O-UDA-1.0
    OCLC-2.0 ODbL-1.0 ODC-By-1.0 OFL-1.0 OFL-1.1 OGL-Canada-2.0 OGL-UK-1.0 OGL-UK-2.0 OGL-UK-3.0
    OGTSL OLDAP-2.8 OML OpenSSL OPL-1.0 OPL-UK-3.0 OPUBL-1.0 OSET-PL-2.1 OSL-3.0 PDDL-1.0 PHP-3.01
    PostgreSQL PSF-2.0 Python-2.0 QPL-1.0 RPL-1.5 RSCPL Ruby SAX-PD Sendmail SGI-B-2.0 SISSL
    Sleepycat SMLNJ SSPL-1.0 TAPR-OHL-1.0 TCL Unicode-3.0 Unicode-DFS-2016 Unlicense UPL-1.0 Vim
    VSL-1.0 W3C Watcom-1.0 WTFPL wxWindows X11 XFree86-1.1 Xnet xpp YPL-1.1 Zend-2.0 Zlib
    zlib-acknowledgement
    """)

  /// What may follow `WITH`, by its name in lower case.
  static let exceptions = names(
    """
    Autoconf-exception-2.0 Autoconf-exception-3.0 Bison-exception-2.2 Bootloader-exception
    Classpath-exception-2.0 CLISP-exception-2.0 DigiRule-FOSS-exception eCos-2.0 eCos-exception-2.0
    Fawkes-Runtime-exception FLTK-exception Font-exception-2.0 freertos-exception-2.0
    GCC-exception-2.0 GCC-exception-2.0-note GCC-exception-3.1 gnu-javamail-exception
    GPL-3.0-linking-exception GPL-3.0-linking-source-exception GPL-CC-1.0 i2p-gpl-java-exception
    LGPL-3.0-linking-exception Libtool-exception Linux-syscall-note LLVM-exception LZMA-exception
    mif-exception OCaml-LGPL-linking-exception OpenJDK-assembly-exception-1.0
    openvpn-openssl-exception PS-or-PDF-font-exception-20170817 Qt-GPL-exception-1.0
    Qt-LGPL-exception-1.1 Qwt-exception-1.0 SHL-2.0 SHL-2.1 Swift-exception Texinfo-exception
    u-boot-exception-2.0 UBDL-exception Universal-FOSS-exception-1.0 WxWindows-exception-3.1
    """)

  private static func names(_ text: String) -> [String: String] {
    Dictionary(
      text.split { $0 == " " || $0 == "\n" }.map { ($0.lowercased(), String($0)) }, uniquingKeysWith: { $1 })
  }
}
