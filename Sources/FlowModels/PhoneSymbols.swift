/// The phone symbols of DiffRhythm 2's vocabulary in the order of their ids 0 to 362 (spec Appendix D; from Amphion's
/// multilingual G2P, MIT): punctuation, English, Mandarin with tones, then what other languages add.
enum PhoneSymbols {
  /// Split by scalars, since one symbol is a lone combining tilde, which is one character with the space before it.
  static let all: [String] =
    text.unicodeScalars.split(whereSeparator: \.properties.isWhitespace).map(String.init)

  private static let text = #"""
    , . ? ! _ iː ɪ ɜː ɚ oːɹ ɔː ɔːɹ ɑː uː ʊ ɑːɹ ʌ ɛ æ eɪ aɪ ɔɪ aʊ oʊ ɪɹ ɛɹ ʊɹ p b t d k ɡ f v θ ð s
    z ʃ ʒ h tʃ dʒ m n ŋ j w ɹ l tɹ dɹ ts dz i ɔ ə ɾ iə r u oː ɛː ɪː aɪə aɪɚ ɑ̃ ç ɔ̃ ææ ɐɐ ɡʲ nʲ iːː
    p⁼ pʰ t⁼ tʰ k⁼ kʰ x tʃ⁼ tʃʰ ts`⁼ ts`ʰ s` ɹ` ts⁼ tsʰ p⁼wo p⁼wo→ p⁼wo↑ p⁼wo↓↑ p⁼wo↓ pʰwo pʰwo→
    pʰwo↑ pʰwo↓↑ pʰwo↓ mwo mwo→ mwo↑ mwo↓↑ mwo↓ fwo fwo→ fwo↑ fwo↓↑ fwo↓ jɛn jɛn→ jɛn↑ jɛn↓↑ jɛn↓
    ɥæn ɥæn→ ɥæn↑ ɥæn↓↑ ɥæn↓ in in→ in↑ in↓↑ in↓ ɥn ɥn→ ɥn↑ ɥn↓↑ ɥn↓ iŋ iŋ→ iŋ↑ iŋ↓↑ iŋ↓ ʊŋ ʊŋ→ ʊŋ↑
    ʊŋ↓↑ ʊŋ↓ jʊŋ jʊŋ→ jʊŋ↑ jʊŋ↓↑ jʊŋ↓ ia ia→ ia↑ ia↓↑ ia↓ iɛ iɛ→ iɛ↑ iɛ↓↑ iɛ↓ iɑʊ iɑʊ→ iɑʊ↑ iɑʊ↓↑
    iɑʊ↓ ioʊ ioʊ→ ioʊ↑ ioʊ↓↑ ioʊ↓ iɑŋ iɑŋ→ iɑŋ↑ iɑŋ↓↑ iɑŋ↓ ua ua→ ua↑ ua↓↑ ua↓ uo uo→ uo↑ uo↓↑ uo↓
    uaɪ uaɪ→ uaɪ↑ uaɪ↓↑ uaɪ↓ ueɪ ueɪ→ ueɪ↑ ueɪ↓↑ ueɪ↓ uan uan→ uan↑ uan↓↑ uan↓ uən uən→ uən↑ uən↓↑
    uən↓ uɑŋ uɑŋ→ uɑŋ↑ uɑŋ↓↑ uɑŋ↓ ɥɛ ɥɛ→ ɥɛ↑ ɥɛ↓↑ ɥɛ↓ a a→ a↑ a↓↑ a↓ o o→ o↑ o↓↑ o↓ ə→ ə↑ ə↓↑ ə↓ ɛ→
    ɛ↑ ɛ↓↑ ɛ↓ aɪ→ aɪ↑ aɪ↓↑ aɪ↓ eɪ→ eɪ↑ eɪ↓↑ eɪ↓ ɑʊ ɑʊ→ ɑʊ↑ ɑʊ↓↑ ɑʊ↓ oʊ→ oʊ↑ oʊ↓↑ oʊ↓ an an→ an↑
    an↓↑ an↓ ən ən→ ən↑ ən↓↑ ən↓ ɑŋ ɑŋ→ ɑŋ↑ ɑŋ↓↑ ɑŋ↓ əŋ əŋ→ əŋ↑ əŋ↓↑ əŋ↓ əɹ əɹ→ əɹ↑ əɹ↓↑ əɹ↓ i→ i↑
    i↓↑ i↓ u→ u↑ u↓↑ u↓ ɥ ɥ→ ɥ↑ ɥ↓↑ ɥ↓ ts`⁼ɹ ts`⁼ɹ→ ts`⁼ɹ↑ ts`⁼ɹ↓↑ ts`⁼ɹ↓ ts`ʰɹ ts`ʰɹ→ ts`ʰɹ↑
    ts`ʰɹ↓↑ ts`ʰɹ↓ s`ɹ s`ɹ→ s`ɹ↑ s`ɹ↓↑ s`ɹ↓ ɹ`ɹ ɹ`ɹ→ ɹ`ɹ↑ ɹ`ɹ↓↑ ɹ`ɹ↓ ts⁼ɹ ts⁼ɹ→ ts⁼ɹ↑ ts⁼ɹ↓↑ ts⁼ɹ↓
    tsʰɹ tsʰɹ→ tsʰɹ↑ tsʰɹ↓↑ tsʰɹ↓ sɹ sɹ→ sɹ↑ sɹ↓↑ sɹ↓ ɯ e aː ɯː eː ç ɸ ɰᵝ ɴ g dʑ q ː bj tɕ dej tej
    gj gɯ çj kj kɯ mj nj pj ɾj ɕ tsɯ ɐ ɑ ɒ ɜ ɫ ʑ ʲ y ø œ ʁ ̃ ɲ : ; ' …
    """#
}
