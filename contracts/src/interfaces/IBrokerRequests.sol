// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title Where a host asks one broker for IPv6 space, and where the broker answers.
/// @notice Request ids count from 1; 0 means "none". An NFT contract has at most one live request: the one
/// `nftContractToRequestId` names, whose status is Pending or Approved. Every other request is Expired.
/// All amounts are wei, all times Unix seconds, all durations seconds, all lengths bytes.
///
/// Functions, structs and events answer as the first generation in the field does, plus the second's capacity
/// functions. Additions: the fee, `submitResponses`, `requestDigest`, `releaseRequest`, `releaseCount`, release by the host, the events
/// `AllocationReleased`, `ResponseSkipped`, `RequestFeeChanged`, `FeesWithdrawn`, and custom errors where there was text.
interface IBrokerRequests {
    /// @dev Rejected is part of the field's ABI and is never set.
    enum RequestStatus {
        Pending,
        Approved,
        Rejected,
        Expired
    }

    /// @param id 1..getRequestCount().
    /// @param requester Wallet that sent the request and owned the NFT contract then.
    /// @param nftContract The host's ERC-721 contract, which the lease belongs to.
    /// @param encryptedPayload ECIES ciphertext for the broker, 1..4096 bytes.
    /// @param status Approved while the answer is live; Expired once superseded, released or out of time.
    /// @param responsePayload 8-byte big-endian request id, then ECIES ciphertext for the host; empty if unanswered.
    /// @param submittedAt Block time of the request.
    /// @param respondedAt Block time of the last change of status; 0 while Pending.
    struct Request {
        uint256 id;
        address requester;
        address nftContract;
        bytes encryptedPayload;
        RequestStatus status;
        bytes responsePayload;
        uint256 submittedAt;
        uint256 respondedAt;
    }

    event RequestSubmitted(
        uint256 indexed requestId, address indexed requester, address indexed nftContract, bytes encryptedPayload
    );
    event ResponseSubmitted(uint256 indexed requestId, RequestStatus status, bytes responsePayload);
    /// @notice The request ran out of time, or a newer request of the same NFT contract took its place.
    event RequestExpired(uint256 indexed requestId);
    /// @notice The NFT contract holds no lease any more. `by` is the broker or the NFT contract's owner.
    event AllocationReleased(uint256 indexed requestId, address indexed nftContract, address indexed by);
    /// @notice An answer of submitResponses was not applied: its request is not the one the broker saw, or not pending.
    event ResponseSkipped(uint256 indexed requestId);
    event RequestFeeChanged(uint256 requestFee);
    event FeesWithdrawn(address indexed to, uint256 amount);

    error InvalidRequestId(uint256 requestId);
    error ZeroAddress();
    error InvalidPayloadLength(uint256 length, uint256 max);
    error WrongFee(uint256 sent, uint256 required);
    error CapacityExhausted(uint256 totalCapacity);
    /// @notice No code there, or it does not claim ERC-721 (0x80ac58cd) through ERC-165 within 100,000 gas.
    error NotErc721(address nftContract);
    /// @param nftOwner What `owner()` of the NFT contract says; zero when it gives no answer.
    error NotNftOwner(address caller, address nftOwner);
    error RequestNotPending(uint256 requestId, RequestStatus status);
    error RequestOutOfTime(uint256 requestId, uint256 expiredAt);
    error NoAllocation(address nftContract);
    error LengthMismatch(uint256 ids, uint256 digests, uint256 payloads);
    error TooManyIds(uint256 count, uint256 max);
    error InvalidExpirationTime(uint256 expirationTime, uint256 min, uint256 max);
    error WithdrawFailed(address to, uint256 amount);
    /// @notice Without an owner nobody could answer, release or withdraw.
    error OwnerRequired();

    /// @notice Asks for a lease. Whoever owns the NFT contract may ask again at any time: the newer request takes the
    /// place of the older one, answered or not.
    /// @param nftContract ERC-721 contract whose `owner()` is the caller.
    /// @param encryptedPayload 1..4096 bytes.
    /// @return requestId The new request's id.
    /// @dev Send exactly requestFee(). When totalCapacity is set, a request that supersedes none needs a free place.
    function submitRequest(address nftContract, bytes calldata encryptedPayload)
        external
        payable
        returns (uint256 requestId);

    /// @notice Answers one request, which becomes Approved. Only the owner (the broker).
    /// @param responsePayload 1..4096 bytes.
    /// @dev Reverts unless the request is Pending (so also when it was superseded or released) and in time.
    function submitResponse(uint256 requestId, bytes calldata responsePayload) external;

    /// @notice Answers many requests. Only the owner (the broker).
    /// @param requestIds Requests to answer.
    /// @param digests `requestDigest` of each, as computed from what the broker read: an answer never lands on a
    /// request with other content, even if a reorg gave its id to someone else.
    /// @param responsePayloads 1..4096 bytes each.
    /// @dev An item whose request is unknown, not Pending, out of time, or has another digest is skipped with
    /// ResponseSkipped; the others go through. Reverts only for lists of unequal length and payloads of invalid length.
    function submitResponses(
        uint256[] calldata requestIds,
        bytes32[] calldata digests,
        bytes[] calldata responsePayloads
    ) external;

    /// @notice Ends the live request of an NFT contract, answered or not: it becomes Expired.
    /// Only the owner (the broker) and the current `owner()` of the NFT contract.
    function releaseAllocation(address nftContract) external;

    /// @notice Ends this request like releaseAllocation, or reverts with NoAllocation if it is not the live one of its NFT
    /// contract: so the release of an old lease never hits a newer request. Same callers.
    function releaseRequest(uint256 requestId) external;

    /// @notice Ends requests that were not answered in time. Anyone. Ids that are unknown, not Pending or still in time
    /// are ignored.
    /// @param requestIds At most 256.
    function markExpired(uint256[] calldata requestIds) external;

    /// @notice Sets how long a request may wait for its answer: 1 hour to 7 days. Only the owner. Applies to waiting
    /// requests too.
    function setRequestExpirationTime(uint256 expirationTime) external;

    /// @notice Sets the number of live requests (Pending and Approved) to accept; 0 = unlimited. Only the owner.
    function setTotalCapacity(uint256 totalCapacity) external;

    /// @notice Sets what a request costs, in wei; 0 = free. Only the owner.
    function setRequestFee(uint256 requestFee) external;

    /// @notice Sends the whole balance (the fees) to `to`. Only the owner.
    function withdraw(address payable to) external;

    /// @notice One request with its whole payloads. Reverts with InvalidRequestId for 0 and above getRequestCount().
    function getRequest(uint256 requestId) external view returns (Request memory);

    /// @notice Number of requests ever made; the highest id.
    function getRequestCount() external view returns (uint256);

    /// @notice The requests by zero-based index: requests(i) is getRequest(i + 1), flat.
    function requests(uint256 index)
        external
        view
        returns (
            uint256 id,
            address requester,
            address nftContract,
            bytes memory encryptedPayload,
            RequestStatus status,
            bytes memory responsePayload,
            uint256 submittedAt,
            uint256 respondedAt
        );

    /// @notice What an answer is bound to:
    /// `keccak256(abi.encode(block.chainid, address(this), requestId, requester, nftContract, payloadHash))`, six words,
    /// with `payloadHash = keccak256(0x00 || encryptedPayload)` (one zero byte, then the payload).
    /// @dev Computable from getRequest alone. The zero byte is the first of the data contract that holds the payload,
    /// so that the contract itself gets payloadHash from EXTCODEHASH. Reverts with InvalidRequestId like getRequest.
    function requestDigest(uint256 requestId) external view returns (bytes32);

    /// @notice The live request of an NFT contract; 0 = none.
    function nftContractToRequestId(address nftContract) external view returns (uint256);

    /// @notice The ids of a wallet's requests, oldest first. Reverts past the last.
    function requesterToRequestIds(address requester, uint256 index) external view returns (uint256);

    /// @notice How long a request may wait for its answer; 24 hours unless set.
    function requestExpirationTime() external view returns (uint256);

    /// @notice What a request costs.
    function requestFee() external view returns (uint256);

    /// @notice Live requests accepted at most; 0 = unlimited.
    function totalCapacity() external view returns (uint256);

    /// @notice Places left: max uint256 if unlimited, else totalCapacity less the live requests, at least 0.
    function getAvailableCapacity() external view returns (uint256);

    /// @notice Number of Approved requests.
    function _activeCount() external view returns (uint256);

    /// @notice Number of Pending requests, those out of time but not yet marked included.
    function _pendingCount() external view returns (uint256);

    /// @notice Number of releases ever. It grows with every AllocationReleased, so that a reader who sees it unchanged
    /// need not look for one.
    function releaseCount() external view returns (uint256);
}
