import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Avro's binary encoding behind the five bytes that name the schema. Reused for each record. */
final class AvroBuffer {
  private static final byte[] DIGITS = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

  private byte[] bytes = new byte[1024];
  private int size;

  void begin(int schemaId) {
    size = 0;
    bytes[size++] = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes[size++] = (byte) (schemaId >>> shift);
    }
  }

  void putLong(long value) {
    reserve(10);
    long left = value << 1 ^ value >> 63;
    while ((left & ~0x7fL) != 0) {
      bytes[size++] = (byte) (left & 0x7f | 0x80);
      left >>>= 7;
    }
    bytes[size++] = (byte) left;
  }

  void putBoolean(boolean value) {
    reserve(1);
    bytes[size++] = (byte) (value ? 1 : 0);
  }

  void putText(String text) {
    byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
    putLong(encoded.length);
    reserve(encoded.length);
    System.arraycopy(encoded, 0, bytes, size, encoded.length);
    size += encoded.length;
  }

  void putNullableText(String text) {
    if (text == null) {
      putLong(0);
    } else {
      putLong(1);
      putText(text);
    }
  }

  byte[] toBytes() {
    return Arrays.copyOf(bytes, size);
  }

  private void reserve(int count) {
    if (size + count > bytes.length) {
      bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, size + count));
    }
  }

  static String hex(byte[] bytes, int count) {
    byte[] text = new byte[2 * count];
    for (int index = 0; index < count; index++) {
      text[2 * index] = DIGITS[bytes[index] >> 4 & 15];
      text[2 * index + 1] = DIGITS[bytes[index] & 15];
    }
    return new String(text, StandardCharsets.US_ASCII);
  }
}
