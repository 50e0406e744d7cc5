# A publisher in Rails (app/services/isimud_publisher.rb; Ruby's standard library
# alone). Publish when the record is committed, from a job:
#
#   class Match < ApplicationRecord
#     after_update_commit { PublishJob.perform_later("match/#{id}", as_json(only: [:home, :away])) }
#   end
#
#   class PublishJob < ApplicationJob
#     retry_on IsimudPublisher::Unavailable, wait: 2.seconds, attempts: 10
#     # The job's id makes it one publication, however often the job is run.
#     def perform(topic, data) = IsimudPublisher.new.publish(topic, data, key: job_id)
#   end
require "json"
require "net/http"
require "securerandom"

class IsimudPublisher
  class Error < StandardError; end
  class Unavailable < Error; end # try again, with the same key

  def initialize(url: ENV.fetch("ISIMUD_URL", "http://127.0.0.1:3000"),
                 publisher: ENV.fetch("ISIMUD_PUBLISHER", "news"),
                 password: ENV.fetch("ISIMUD_PASSWORD"))
    @uri = URI.join(url, "/pub")
    @publisher = publisher
    @password = password
  end

  # Returns the receipt, {"id" => …, "subscribers" => …}.
  def publish(topic, data, event: nil, key: SecureRandom.uuid)
    request = Net::HTTP::Post.new(@uri, "Content-Type" => "application/json", "Idempotency-Key" => key)
    request.basic_auth(@publisher, @password)
    request.body = JSON.generate({ topic: topic, data: data, event: event }.compact)
    response = Net::HTTP.start(@uri.host, @uri.port, use_ssl: @uri.scheme == "https",
                                                     open_timeout: 2, read_timeout: 5) { |http| http.request(request) }
    case response
    when Net::HTTPSuccess then JSON.parse(response.body)
    when Net::HTTPServerError then raise Unavailable, "isimud answers #{response.code}"
    else raise Error, "isimud answers #{response.code} #{response.body}"
    end
  rescue SystemCallError, SocketError, IOError, Timeout::Error => e
    raise Unavailable, e.message
  end
end
