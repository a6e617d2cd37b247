import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Currency;
import java.util.HashMap;
import java.util.Map;

/**
 * Hub88's wallet calls to wallet transactions, byte for byte as our normaliser writes them.
 *
 * <p>Bets, wins and rollbacks as a measurement sends them: what our normaliser would reject, and a
 * supplier's promotions, end the process. Signatures are not checked. Used by one thread.
 */
final class Hub88Mapping {
  /** Header names of a connector, in their order in {@link #map}. */
  static final String[] HEADERS = {"http-path", "brand", "region", "received-at"};

  private static final String PROVIDER = "hub88";
  private static final String VERSION = "1";
  private static final byte[] EVENT_NAMESPACE = {
    0x65, (byte) 0xf8, (byte) 0xf5, (byte) 0xbc, 0x0a, 0x5d, 0x51, (byte) 0xaf,
    (byte) 0xbd, (byte) 0xce, (byte) 0xa4, (byte) 0xaf, (byte) 0xf6, 0x67, 0x1f, (byte) 0x90
  };
  private static final int CONNECTOR = 1;
  private static final int BROKER = 2;
  private static final int AMOUNT_SCALE = 5;
  private static final int FINGERPRINT_VERSION = 1;
  private static final int FINGERPRINT_BYTES = 16;
  private static final String PATH = "/transaction/";
  private static final Map<String, String> KINDS =
      Map.of("bet", "BET", "win", "WIN", "rollback", "ROLLBACK");

  private final int schemaId;
  private final long toleranceMs;
  private final JsonFactory json = new JsonFactory();
  private final MessageDigest sha1;
  private final Blake2b blake2b = new Blake2b(FINGERPRINT_BYTES);
  private final Map<String, byte[]> eventNames = new HashMap<>();
  private final Map<String, Boolean> currencies = new HashMap<>();
  private final AvroBuffer out = new AvroBuffer();

  /** Take the id of the schema to write, and how far a clock may be behind the broker's. */
  Hub88Mapping(int schemaId, long toleranceMs) {
    this.schemaId = schemaId;
    this.toleranceMs = toleranceMs;
    try {
      this.sha1 = MessageDigest.getInstance("SHA-1");
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  /** An event: the player, who is the key of its record, and the record's value. */
  static final class Event {
    final byte[] key;
    final byte[] value;

    Event(byte[] key, byte[] value) {
      this.key = key;
      this.value = value;
    }
  }

  private static final class Body {
    String user;
    String transaction;
    String round;
    String currency;
    String reference;
    String reward;
    String gameCode;
    String gameId;
    Long amount;
    boolean roundClosed;
    boolean isFree;
    boolean isBillable = true;
  }

  /** Return the event of a raw record; {@code headers} are the values of {@link #HEADERS}. */
  Event map(
      String topic, int partition, long offset, long appendedAt, byte[] value, byte[][] headers) {
    String operation = operationOf(headers[0]);
    String brand = headers[1] == null ? "default" : text(headers[1]);
    String region = headers[2] == null ? "" : text(headers[2]);
    Long receivedAt = headers[3] == null ? null : Long.valueOf(text(headers[3]));
    Body body;
    try {
      body = read(value);
    } catch (IOException error) {
      throw new IllegalArgumentException(topic + "-" + partition + "@" + offset, error);
    }
    String user = require(body.user, "user");
    String transaction = require(body.transaction, "transaction_uuid");
    boolean isRollback = operation.equals("rollback");
    if (isRollback) {
      body.amount = null;
      body.currency = null;
      body.isFree = false;
      body.reward = null;
      require(body.reference, "reference_transaction_uuid");
    } else {
      checkAmount(body);
    }
    String kind = KINDS.get(operation);
    String game = body.gameCode == null ? body.gameId : body.gameCode;
    write(topic, partition, offset, brand, region, operation, kind, transaction, user, body, game);
    long occurredAt = receivedAt == null ? appendedAt : receivedAt;
    out.putLong(Math.min(Math.max(occurredAt, appendedAt - toleranceMs), appendedAt));
    out.putLong(receivedAt == null ? BROKER : CONNECTOR);
    out.putLong(0); // provider_at: null
    if (receivedAt == null) {
      out.putLong(0);
    } else {
      out.putLong(1);
      out.putLong(receivedAt);
    }
    out.putLong(appendedAt);
    out.putText(fingerprint(kind, user, body, game));
    out.putLong(FINGERPRINT_VERSION);
    out.putText("NOT_CHECKED");
    out.putBoolean(operation.equals("bet"));
    out.putLong(0); // cause: null
    out.putLong(0); // group: null
    out.putBoolean(body.isBillable);
    return new Event(user.getBytes(StandardCharsets.UTF_8), out.toBytes());
  }

  private void write(
      String topic,
      int partition,
      long offset,
      String brand,
      String region,
      String operation,
      String kind,
      String transaction,
      String user,
      Body body,
      String game) {
    out.begin(schemaId);
    out.putText(eventId(brand, operation, transaction));
    out.putText(brand);
    out.putText(PROVIDER);
    out.putText(VERSION);
    out.putText(region);
    out.putText(operation);
    out.putText(transaction);
    out.putText(topic);
    out.putLong(partition);
    out.putLong(offset);
    out.putLong(0); // record_index
    out.putNullableText(user);
    out.putLong(1); // one leg
    out.putText(kind);
    if (body.amount == null) {
      out.putLong(0);
    } else {
      out.putLong(1);
      out.putLong(body.amount);
      out.putLong(AMOUNT_SCALE);
    }
    out.putNullableText(body.currency);
    out.putBoolean(body.isFree);
    out.putNullableText(body.reward);
    out.putLong(0); // no more legs
    if (body.reference == null) {
      out.putLong(0);
    } else {
      out.putLong(1);
      out.putText("bet");
      out.putText(body.reference);
      out.putLong(0); // no other operations
      out.putBoolean(false);
    }
    out.putNullableText(body.round);
    out.putBoolean(body.roundClosed);
    out.putNullableText(game);
  }

  private Body read(byte[] value) throws IOException {
    Body body = new Body();
    try (JsonParser parser = json.createParser(value)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new IllegalArgumentException("the body is not an object");
      }
      String name;
      while ((name = parser.nextFieldName()) != null) {
        JsonToken token = parser.nextToken();
        if (token == JsonToken.VALUE_NULL) {
          continue;
        }
        switch (name) {
          case "user" -> body.user = parser.getText();
          case "transaction_uuid" -> body.transaction = parser.getText();
          case "round" -> body.round = parser.getText();
          case "round_closed" -> body.roundClosed = parser.getBooleanValue();
          case "amount" -> body.amount = parser.getLongValue();
          case "currency" -> body.currency = parser.getText();
          case "reference_transaction_uuid" -> body.reference = parser.getText();
          case "is_free" -> body.isFree = parser.getBooleanValue();
          case "is_billable" -> body.isBillable = parser.getBooleanValue();
          case "reward_uuid" -> body.reward = parser.getText();
          case "game_code" -> body.gameCode = parser.getText();
          case "game_id" -> body.gameId = parser.getText();
          case "is_supplier_promo" -> throw new IllegalArgumentException("a promotion");
          default -> parser.skipChildren();
        }
      }
    }
    return body;
  }

  private void checkAmount(Body body) {
    if (body.amount == null || body.amount < 0) {
      throw new IllegalArgumentException("amount");
    }
    String currency = require(body.currency, "currency");
    if (!currencies.computeIfAbsent(currency, Hub88Mapping::isCurrency)) {
      throw new IllegalArgumentException("currency " + currency);
    }
  }

  private static boolean isCurrency(String code) {
    try {
      return Currency.getInstance(code) != null;
    } catch (IllegalArgumentException error) {
      return false;
    }
  }

  private static String operationOf(byte[] path) {
    String text = path == null ? "" : text(path);
    int at = text.lastIndexOf(PATH);
    String operation = at < 0 ? "" : text.substring(at + PATH.length());
    if (!KINDS.containsKey(operation)) {
      throw new IllegalArgumentException("http-path " + text);
    }
    return operation;
  }

  private static String require(String text, String field) {
    if (text == null || text.isEmpty()) {
      throw new IllegalArgumentException(field + " is missing");
    }
    return text;
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  private String eventId(String brand, String operation, String transaction) {
    sha1.update(
        eventNames.computeIfAbsent(
            brand + '\0' + operation,
            key -> {
              byte[] name = utf8(sized(brand) + sized(PROVIDER) + sized(operation));
              byte[] whole = new byte[EVENT_NAMESPACE.length + name.length];
              System.arraycopy(EVENT_NAMESPACE, 0, whole, 0, EVENT_NAMESPACE.length);
              System.arraycopy(name, 0, whole, EVENT_NAMESPACE.length, name.length);
              return whole;
            }));
    byte[] digest = sha1.digest(utf8(sized(transaction)));
    digest[6] = (byte) (digest[6] & 0x0f | 0x50); // RFC 9562 section 5.5
    digest[8] = (byte) (digest[8] & 0x3f | 0x80);
    String hex = AvroBuffer.hex(digest, 16);
    return hex.substring(0, 8)
        + '-'
        + hex.substring(8, 12)
        + '-'
        + hex.substring(12, 16)
        + '-'
        + hex.substring(16, 20)
        + '-'
        + hex.substring(20, 32);
  }

  private String fingerprint(String kind, String user, Body body, String game) {
    String campaign = body.reward == null ? "" : "=" + body.reward;
    String currency = body.currency == null ? "" : body.currency;
    String leg =
        kind + ',' + number(body.amount) + ',' + currency + ',' + (body.isFree ? '1' : '0') + ','
            + campaign;
    String reference = body.reference == null ? null : sized("bet") + sized(body.reference);
    String whole =
        sized(leg) + nullable(user) + nullable(body.round) + nullable(game) + nullable(reference);
    return AvroBuffer.hex(blake2b.digest(utf8(whole)), FINGERPRINT_BYTES);
  }

  private static String number(Long amount) {
    if (amount == null) {
      return "-";
    }
    if (amount == 0) {
      return "0e0";
    }
    String digits = amount.toString();
    int end = digits.length();
    while (digits.charAt(end - 1) == '0') {
      end--;
    }
    int dropped = digits.length() - end;
    return dropped <= AMOUNT_SCALE
        ? digits.substring(0, end) + 'e' + (AMOUNT_SCALE - dropped)
        : digits.substring(0, digits.length() - AMOUNT_SCALE) + "e0";
  }

  private static String sized(String text) {
    return text.codePointCount(0, text.length()) + ":" + text;
  }

  private static String nullable(String text) {
    return text == null ? "1:-" : sized("=" + text);
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }
}
